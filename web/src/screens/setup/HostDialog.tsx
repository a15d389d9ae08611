// From nothing to the first host: what it becomes, two commands, and a light that turns green.

import { useMutation } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Link } from "react-router";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import { StateBadge } from "../../ui/Badge";
import { Code, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Field, Options, Select } from "../../ui/Field";
import { Icon } from "../../ui/Icon";
import { Dialog, Section } from "../../ui/Over";
import { labelText, plural, printable } from "../../words";
import { type Profile, useArriving, useProfiles } from "./asking";
import css from "./Setup.module.css";
import { endOf, labelsOf, LASTS, wrongLabels } from "./words";

const NEW = "";
const MODES = [
  { id: "observe", name: "Observe", help: "Nothing is dropped; everything is seen. Where to begin." },
  { id: "selective", name: "Selective", help: "What is forbidden or denied is dropped; the rest passes and is told." },
  { id: "enforce", name: "Enforce", help: "What no rule allows is dropped from the first moment." },
] as const;
type ModeId = (typeof MODES)[number]["id"];

interface Made {
  token: string;
  labels: Record<string, string>;
}

export function HostDialog({ profile, onClose }: { profile?: string; onClose: () => void }) {
  const profiles = useProfiles();
  const [made, setMade] = useState<Made | null>(null);
  if (made) return <Commands made={made} onClose={onClose} />;
  if (!profiles.data) return <Dialog title="Pair a host" onClose={onClose}>{profiles.error ? <ErrorBox error={profiles.error} /> : <Loading />}</Dialog>;
  return <Ask profiles={profiles.data} first={profile ?? profiles.data[0]?.name ?? NEW} onMade={setMade} onClose={onClose} />;
}

function Ask({ profiles, first, onMade, onClose }: { profiles: readonly Profile[]; first: string; onMade: (made: Made) => void; onClose: () => void }) {
  const [chosen, choose] = useState(first);
  const [name, setName] = useState("");
  const [text, setText] = useState("");
  const [mode, setMode] = useState<ModeId>("observe");
  const [uses, setUses] = useState("1");
  const [lasts, setLasts] = useState("86400");
  const labels = labelsOf(text);
  const known = profiles.find((one) => one.name === chosen);
  const make = useMutation({
    mutationFn: async (): Promise<Made> => {
      const profile = known ?? (await told(api.POST("/v1/profiles", { body: { name: name.trim(), labels: labels ?? {}, mode: { in: mode, out: mode }, ranges: [] } })));
      const { token } = await told(api.POST("/v1/invitations", { body: { profile: profile.name, uses: Number(uses) || null, expires: endOf(lasts, Date.now()) } }));
      return { token, labels: profile.labels };
    },
    onSuccess: onMade,
    onSettled: () => refresh("profiles", "invitations", "audit"),
  });
  const isReady = known !== undefined || (name.trim() !== "" && labels !== null);
  return (
    <Dialog
      title="Pair a host" about="A profile says what hosts become that join by it; an invitation lets so many of them in." onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={make.isPending} disabled={!isReady} onClick={() => make.mutate()}>Make the invitation</Button></>}
    >
      {profiles.length > 0 && <Select name="They become" values={[...profiles.map((one): [string, string] => [one.name, `${one.name}: ${labelText(one.labels) || "no labels"}, ${one.mode.in}`]), [NEW, "A new profile"]]} value={chosen} onChange={(event) => choose(event.target.value)} />}
      {!known && (
        <>
          <Field name="Name of the profile" placeholder="web" value={name} onChange={(event) => setName(event.target.value)} />
          <Field name="Labels" placeholder="app=shop, env=prod, role=web" help="Labels decide policy: what hosts carry, rules pick." wrong={wrongLabels(text) || undefined} value={text} onChange={(event) => setText(event.target.value)} />
          <Options name="Mode" values={MODES} chosen={mode} onChoose={setMode} />
        </>
      )}
      <div className={css.pair}>
        <Field name="For how many hosts" type="number" min={1} value={uses} help="Empty: any number." onChange={(event) => setUses(event.target.value)} />
        <Select name="For how long" values={LASTS} value={lasts} onChange={(event) => setLasts(event.target.value)} />
      </div>
      {make.error && <ErrorBox error={make.error} />}
    </Dialog>
  );
}

function Commands({ made, onClose }: { made: Made; onClose: () => void }) {
  return (
    <Dialog title="Two commands on the host" about="The token is told once, here. Whoever has it can let a host in." onClose={onClose} foot={<Button onClick={onClose}>Close</Button>}>
      <Section title="1. Join, as root"><Code text={`ringfence-agent enrol --token ${made.token}`} /></Section>
      <Section title="2. Begin"><Code text="systemctl enable --now ringfence-agent" /></Section>
      <p className="soft small">The controller's certificate is pinned in the token. <code>ringfence-agent preflight</code> says beforehand whether the host can take part.</p>
      <Waiting labels={made.labels} />
    </Dialog>
  );
}

function Waiting({ labels }: { labels: Record<string, string> }) {
  const found = useArriving(labels, true);
  const before = useRef<ReadonlySet<string> | null>(null);
  if (found.data && before.current === null) before.current = new Set(found.data.map((one) => one.uuid));
  const here = (found.data ?? []).filter((one) => !before.current?.has(one.uuid));
  const isIn = here.length > 0;
  return (
    <div className={css.waiting} data-in={isIn} role="status" aria-live="polite">
      {isIn ? <Icon name="check" size={20} /> : <i aria-hidden="true" />}
      {isIn ? (
        <div>
          <b>{here.length === 1 ? `${printable(here[0]?.name ?? "")} is here` : `${plural(here.length, "host")} are here`}</b>
          <ul>{here.map((one) => <li key={one.uuid}><Link to={`/workloads?open=${one.uuid}`}>{printable(one.name)}</Link> <StateBadge state={one.state} /></li>)}</ul>
          <p className="soft small">Traffic shows on the <Link to="/map">map</Link> within a minute or two.</p>
        </div>
      ) : <div><b>Waiting for the first host…</b><p className="soft small">It shows here as soon as it has joined. This window may be closed.</p></div>}
      {found.error && <ErrorBox error={found.error} />}
    </div>
  );
}
