// Every workload: who it is, how strictly it is held, and whether it is so.

import { useMemo, useState } from "react";
import { useWorkloads } from "../../api/queries";
import type { HostState, ModeName, Workload } from "../../api/types";
import { QuarantineDialog } from "../../parts/QuarantineDialog";
import { useAddress } from "../../shell/address";
import { useEstateQuery } from "../../shell/query";
import { Badge, Labels, ModeBadge, StateBadge } from "../../ui/Badge";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { LiveFilter, Select } from "../../ui/Field";
import { Page, PickedBar } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, labelText, plural, printable } from "../../words";
import { LabelsDialog } from "./LabelsDialog";
import { ModeDialog } from "./ModeDialog";
import { HEARD, isWanted } from "./wanted";
import { WorkloadDrawer } from "./WorkloadDrawer";

const STATES: readonly (readonly [string, string])[] = [
  ["", "Any state"], ["trouble", "Not as told"], ["realised", "Realised"], ["pending", "Pending"], ["drifted", "Drifted"], ["refused", "Refused"], ["reverted", "Went back"], ["unreachable", "Unreachable"], ["unmanaged", "Unmanaged"],
];
const MODES: readonly (readonly [string, string])[] = [["", "Any mode"], ["observe", "Observe in"], ["selective", "Selective in"], ["enforce", "Enforce in"], ["out-observe", "Observe out"], ["out-selective", "Selective out"], ["out-enforce", "Enforce out"]];
/** Trouble first. */
const RANK: Record<HostState, number> = { drifted: 0, reverted: 1, refused: 2, unreachable: 3, pending: 4, unmanaged: 5, realised: 6 };
const STRICT: Record<ModeName, number> = { observe: 0, selective: 1, enforce: 2 };

const columnsAt = (now: number): readonly Column<Workload>[] => [
  {
    id: "name", name: "Workload", width: "18%", by: (one) => one.name,
    cell: (one) => <><b>{printable(one.name)}</b>{one.is_quarantined && <> <Badge tone="bad" mark="⛒">quarantine</Badge></>}</>,
  },
  { id: "labels", name: "Labels", by: (one) => labelText(one.labels), cell: (one) => <Labels labels={one.labels} isLine /> },
  { id: "mode", name: "Mode", width: "182px", by: (one) => STRICT[one.mode.in] * 3 + STRICT[one.mode.out], cell: (one) => one.state === "unmanaged" ? <span className="soft">–</span> : <ModeBadge mode={one.mode} /> },
  { id: "state", name: "State", width: "128px", by: (one) => RANK[one.state], cell: (one) => <StateBadge state={one.state} /> },
  { id: "version", name: "Version", width: "82px", isNumber: true, isExtra: true, by: (one) => one.policy_version, cell: (one) => one.policy_version || <span className="soft">–</span> },
  { id: "address", name: "Address", width: "150px", isExtra: true, by: (one) => one.addresses[0] ?? "", cell: (one) => <span className="mono" title={one.addresses.join(", ")}>{one.addresses[0] ?? "–"}{one.addresses.length > 1 && <span className="soft"> +{one.addresses.length - 1}</span>}</span> },
  { id: "seen", name: "Last heard", width: "108px", isExtra: true, by: (one) => (one.seen ? -Date.parse(one.seen) : Infinity), cell: (one) => <span className="soft">{one.seen ? ago(one.seen, now) : "never"}</span> },
];

type Doing = "labels" | "mode" | "quarantine" | null;

export default function Workloads() {
  const { where } = useEstateQuery();
  const { search, put, reset } = useAddress();
  const found = useWorkloads(where);
  const now = useNow(10_000);
  const columns = useMemo(() => columnsAt(now), [now]);
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const [doing, setDoing] = useState<Doing>(null);
  const [text, state, mode, heard, opened] = ["name", "state", "mode", "heard", "open"].map((key) => search.get(key) ?? "") as [string, string, string, string, string];
  const at = heard ? now : 0;

  const all = found.data?.items;
  const rows = useMemo(() => all?.filter((one) => isWanted(one, { text, state, mode, heard }, at)) ?? [], [all, text, state, mode, heard, at]);
  const chosen = useMemo(() => (all ?? []).filter((one) => picked.has(one.uuid)), [all, picked]);
  const done = (): void => (setDoing(null), setPicked(new Set()));
  const about = all && (rows.length === all.length ? count(all.length) : `${count(rows.length)} of ${count(all.length)}`);

  return (
    <Page
      title="Workloads" isSheet
      about={<>{about}{found.data && !found.data.isWhole && " (the first; narrow the selector)"}</>}
      tools={
        <>
          <LiveFilter name="Name or address" value={text} onType={(name) => put({ name })} />
          <Select name="State" isTight values={STATES} value={state} onChange={(event) => put({ state: event.target.value })} />
          <Select name="Mode" isTight values={MODES} value={mode} onChange={(event) => put({ mode: event.target.value })} />
          <Select name="Last heard" isTight values={HEARD} value={heard} onChange={(event) => put({ heard: event.target.value })} />
        </>
      }
      side={opened && <WorkloadDrawer key={opened} uuid={opened} known={all?.find((one) => one.uuid === opened)} onClose={() => put({ open: "" })} />}
    >
      {chosen.length > 0 && <Ticked chosen={chosen} onDo={setDoing} onClear={() => setPicked(new Set())} />}
      {found.error && !all ? (
        <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
      ) : !all ? (
        <Loading lines={10} />
      ) : rows.length === 0 ? (
        <Nobody isEmpty={all.length === 0 && where === ""} onAll={() => reset()} />
      ) : (
        <Table
          label="Workloads" rows={rows} columns={columns} idOf={idOf} nameOf={nameOf} order={{ id: "name", isDown: false }}
          opened={opened} onOpen={(one) => put({ open: one.uuid === opened ? "" : one.uuid })} picked={picked} onPick={setPicked}
        />
      )}
      {doing === "labels" && <LabelsDialog workloads={chosen} known={all ?? []} onClose={() => setDoing(null)} onDone={done} />}
      {doing === "mode" && <ModeDialog workloads={chosen} onClose={() => setDoing(null)} onDone={done} />}
      {doing === "quarantine" && <QuarantineDialog workloads={chosen} why="" onClose={done} />}
    </Page>
  );
}

const idOf = (one: Workload): string => one.uuid;
const nameOf = (one: Workload): string => printable(one.name);

function Ticked({ chosen, onDo, onClear }: { chosen: readonly Workload[]; onDo: (doing: Doing) => void; onClear: () => void }) {
  const over = useMemo(() => ({ labels: chosen.map((one) => one.labels) }), [chosen]);
  return (
    <PickedBar>
      <b>{plural(chosen.length, "workload")}</b>
      <Button needs="label" over={over} isTight icon="tag" onClick={() => onDo("labels")}>Edit labels</Button>
      <Button needs="mode" over={over} isTight icon="shield" onClick={() => onDo("mode")}>Change mode</Button>
      <Button needs="quarantine" over={over} isTight icon="lock" onClick={() => onDo("quarantine")}>Quarantine</Button>
      <Button isTight look="quiet" onClick={onClear}>Untick</Button>
    </PickedBar>
  );
}

function Nobody({ isEmpty, onAll }: { isEmpty: boolean; onAll: () => void }) {
  if (isEmpty) {
    return <Empty icon="server" title="Nobody is here yet"><p>A workload is whatever can be isolated: a host, a VM, a container, a process. Hosts come in with an invitation; Home shows how.</p></Empty>;
  }
  return <Empty icon="search" title="Nobody is like that" actions={<Button onClick={onAll}>Show everybody</Button>}><p>No workload meets the selector and the filters together.</p></Empty>;
}
