// Who one is here: name, roles and what they are over, where one is signed in; for administrators, everybody who is.

import { useMutation, useQuery } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { api, told, whole } from "../../api/client";
import { refresh } from "../../api/queries";
import type { OpenSession } from "../../api/types";
import { useRefusal, wordsOf } from "../../session/may";
import { useMay, useSession } from "../../session/session";
import { Badge } from "../../ui/Badge";
import { Card, ErrorBox, Fact, Facts, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { say, Dialog } from "../../ui/Over";
import { Page } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, printable } from "../../words";
import { useSignOut } from "./SignOut";
import css from "./Session.module.css";

const MINE = ["sessions", "mine"];
const ALL = ["sessions", "all"];

export default function Session() {
  const { session } = useSession();
  const [isLeaving, leave] = useSignOut();
  if (!session) return <Loading />;
  return (
    <Page title="Session" about={printable(session.me.name)} tools={<Button icon="out" onClick={leave}>Log out</Button>}>
      <div className={css.cards}>
        <Who />
        <Powers />
        <Mine />
        <Everybody />
      </div>
      {isLeaving}
    </Page>
  );
}

function Who() {
  const { session } = useSession();
  const now = useNow();
  if (!session) return null;
  return (
    <Card title="Who you are">
      <Facts>
        <Fact name="Name">{printable(session.me.name)}</Fact>
        <Fact name="Known by">{session.provider ? printable(session.provider) : "an access token"}</Fact>
        <Fact name="Signed in"><span title={moment(session.opened)}>{ago(session.opened, now)}</span></Fact>
        <Fact name="Ends"><span title={moment(session.ends)}>{ago(session.ends, now)}</span>, or when nobody is here for {Math.round(session.idle_s / 60)} minutes</Fact>
      </Facts>
    </Card>
  );
}

function Powers() {
  const { me, session } = useSession();
  const roles = session?.roles ?? {};
  return (
    <Card title="What you may do">
      <ul className={css.powers}>
        {me?.powers.map((power, index) => (
          <li key={index}>
            <p>{power.roles.map((role) => <Badge key={role} tone="accent">{role}</Badge>)} over {power.scope ? <code>{printable(power.scope)}</code> : "the whole estate"}</p>
            <p className="soft small">May {[...new Set(power.roles.flatMap((role) => roles[role] ?? []))].map(wordsOf).join(", ")}.</p>
          </li>
        ))}
      </ul>
    </Card>
  );
}

const columnsAt = (now: number, onEnd: (one: OpenSession) => void, isAll: boolean): Column<OpenSession>[] => [
  { id: "name", name: "Who", by: (one) => one.name, cell: (one) => <><b>{printable(one.name)}</b> {one.is_this && <Badge tone="good" mark="✓">this one</Badge>}</> },
  { id: "by", name: "Known by", isExtra: true, by: (one) => one.subject ?? "", cell: (one) => <span className="soft">{one.subject ? printable(one.subject) : `token ${one.token ?? ""}`}</span> },
  { id: "opened", name: "Signed in", width: "116px", by: (one) => one.opened, cell: (one) => <span title={moment(one.opened)}>{ago(one.opened, now)}</span> },
  { id: "seen", name: "Last seen", width: "116px", by: (one) => one.seen, cell: (one) => <span title={moment(one.seen)}>{ago(one.seen, now)}</span> },
  { id: "ends", name: "Ends", width: "100px", isExtra: true, by: (one) => one.ends, cell: (one) => <span title={moment(one.ends)}>{ago(one.ends, now)}</span> },
  { id: "end", name: "", width: "84px", cell: (one) => one.is_this ? null : <Button isTight aria-label={`End the session of ${printable(one.name)} opened ${moment(one.opened)}`} needs={isAll ? "tokens" : undefined} onClick={() => onEnd(one)}>End</Button> },
];

function Mine() {
  const found = useQuery({ queryKey: MINE, queryFn: ({ signal }) => whole((after) => api.GET("/v1/me/sessions", { params: { query: { after } }, signal })), refetchInterval: 30_000 });
  return <List title="Where you are signed in" label="Your sessions" found={found} isAll={false} />;
}

function Everybody() {
  const may = useMay("tokens");
  const why = useRefusal("tokens");
  const found = useQuery({ queryKey: ALL, queryFn: ({ signal }) => whole((after) => api.GET("/v1/sessions", { params: { query: { after } }, signal })), refetchInterval: 30_000, enabled: may });
  if (!may) return <Card title="Who is signed in"><Note>{why}</Note></Card>;
  return <List title="Who is signed in" label="Everybody's sessions" found={found} isAll />;
}

function List({ title, label, found, isAll }: { title: string; label: string; found: { data: OpenSession[] | undefined; error: unknown; refetch: () => unknown }; isAll: boolean }): ReactNode {
  const now = useNow();
  const [ending, setEnding] = useState<OpenSession | null>(null);
  const columns = useMemo(() => columnsAt(now, setEnding, isAll), [now, isAll]);
  return (
    <Card title={<>{title}{found.data && <span className="soft small"> {count(found.data.length)}</span>}</>} isFlush>
      {found.error && !found.data ? <ErrorBox error={found.error} onRetry={() => void found.refetch()} /> : !found.data ? <Loading /> : (
        <div className={css.list} data-many={found.data.length > 8}>
          <Table label={label} rows={found.data} columns={columns} idOf={(one) => one.id} order={{ id: "seen", isDown: true }} />
        </div>
      )}
      {ending && <End of={ending} isAll={isAll} onClose={() => setEnding(null)} />}
    </Card>
  );
}

function End({ of: one, isAll, onClose }: { of: OpenSession; isAll: boolean; onClose: () => void }) {
  const params = { path: { id: one.id } };
  const end = useMutation({
    mutationFn: () => isAll ? told(api.DELETE("/v1/sessions/{id}", { params })) : told(api.DELETE("/v1/me/sessions/{id}", { params })),
    onSuccess: () => {
      say(`The session of ${one.name} is over`);
      void refresh("sessions", "audit");
      onClose();
    },
  });
  return (
    <Dialog
      title="End this session" about={`${printable(one.name)}, signed in ${moment(one.opened)}`} onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" isBusy={end.isPending} onClick={() => end.mutate()}>End it</Button></>}
    >
      <p>That browser has to sign in again at its next request.{one.token && isAll && <> The token it was opened with stays good: revoke it, too, if somebody else has it.</>}</p>
      {end.error && <ErrorBox error={end.error} />}
    </Dialog>
  );
}
