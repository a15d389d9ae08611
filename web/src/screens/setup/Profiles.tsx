// Pairing profiles: what hosts become that join.

import { useMemo, useState } from "react";
import { useMay } from "../../session/session";
import { Labels, ModeBadge } from "../../ui/Badge";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { PickedBar } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, labelText, moment, plural, printable } from "../../words";
import { type Profile, useProfiles } from "./asking";
import { HostDialog } from "./HostDialog";
import { RangesDialog } from "./RangesDialog";
import css from "./Setup.module.css";

const columnsAt = (now: number, onInvite: (name: string) => void, onRanges: (name: string) => void): readonly Column<Profile>[] => [
  { id: "name", name: "Profile", width: "18%", by: (one) => one.name, cell: (one) => <b>{printable(one.name)}</b> },
  { id: "labels", name: "They carry", by: (one) => labelText(one.labels), cell: (one) => <Labels labels={one.labels} isLine /> },
  { id: "mode", name: "Mode", width: "182px", by: (one) => one.mode.in, cell: (one) => <ModeBadge mode={one.mode} /> },
  { id: "ranges", name: "Addresses in", width: "170px", isExtra: true, cell: (one) => <button type="button" className={css.link} title={`Change the ranges: ${one.ranges.join(", ")}`} onClick={() => onRanges(one.name)}>{one.ranges[0] ?? "nowhere"}{one.ranges.length > 1 && ` +${one.ranges.length - 1}`}</button> },
  { id: "uses", name: "Hosts left", width: "96px", isNumber: true, isExtra: true, by: (one) => one.uses_left ?? Infinity, cell: (one) => (one.uses_left == null ? <span className="soft">any</span> : count(one.uses_left)) },
  { id: "made", name: "Made", width: "150px", isExtra: true, by: (one) => -Date.parse(one.created), cell: (one) => <span className="soft" title={moment(one.created)}>{ago(one.created, now)} by {printable(one.created_by)}</span> },
  { id: "invite", name: "", width: "186px", cell: (one) => <span className={css.acts}><Button isTight needs="enrol" icon="plus" aria-label={`Invite hosts as ${printable(one.name)}`} onClick={() => onInvite(one.name)}>Invite</Button><Button isTight needs="enrol" aria-label={`Ranges of ${printable(one.name)}`} onClick={() => onRanges(one.name)}>Ranges</Button></span> },
];

export function Profiles() {
  const found = useProfiles();
  const now = useNow(15_000);
  const mayEnrol = useMay("enrol");
  const [inviting, invite] = useState<string | null>(null);
  const [ranging, range] = useState<string | null>(null);
  const columns = useMemo(() => columnsAt(now, invite, range), [now]);
  if (found.error && !found.data) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading />;
  return (
    <>
      {found.data.length > 0 && mayEnrol && <PickedBar><span>{plural(found.data.length, "profile")}: a host takes its labels and mode from the one it joins by</span><Button isTight icon="plus" onClick={() => invite("")}>New profile</Button></PickedBar>}
      {found.data.length === 0 ? (
        <Empty icon="server" title="No profile yet" actions={mayEnrol && <Button look="primary" onClick={() => invite("")}>Pair a host</Button>}><p>A profile gives hosts their labels and their mode as they join, so that policy knows them from the first moment.</p></Empty>
      ) : <Table label="Pairing profiles" rows={found.data} columns={columns} idOf={(one) => one.name} order={{ id: "name", isDown: false }} />}
      {ranging !== null && <RangesDialog name={ranging} onClose={() => range(null)} />}
      {inviting !== null && <HostDialog profile={inviting} onClose={() => invite(null)} />}
    </>
  );
}
