// Join tokens, without their secrets: whom they let in, how often yet, until when.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog, say } from "../../ui/Over";
import { PickedBar } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, plural, printable } from "../../words";
import { type Invitation, useInvitations } from "./asking";
import { HostDialog } from "./HostDialog";
import { LifeBadge } from "./LifeBadge";
import { lifeOf } from "./words";

const columnsAt = (now: number, onEnd: (one: Invitation) => void): readonly Column<Invitation>[] => [
  { id: "profile", name: "As", width: "20%", by: (one) => one.profile, cell: (one) => <b>{printable(one.profile)}</b> },
  { id: "life", name: "State", width: "110px", by: (one) => lifeOf(one, now), cell: (one) => <LifeBadge life={lifeOf(one, now)} /> },
  { id: "uses", name: "Hosts left", width: "110px", isNumber: true, by: (one) => one.uses_left ?? Infinity, cell: (one) => (one.uses_left == null ? <span className="soft">any</span> : count(one.uses_left)) },
  { id: "expires", name: "Ends", width: "130px", by: (one) => one.expires ?? "9", cell: (one) => (one.expires ? <span title={moment(one.expires)}>{ago(one.expires, now)}</span> : <span className="soft">when revoked</span>) },
  { id: "made", name: "Made", by: (one) => -Date.parse(one.created), cell: (one) => <span className="soft" title={moment(one.created)}>{ago(one.created, now)} by {printable(one.created_by)}</span> },
  { id: "id", name: "Id", width: "130px", isExtra: true, cell: (one) => <span className="mono soft">{one.id}</span> },
  { id: "end", name: "", width: "100px", cell: (one) => lifeOf(one, now) === "open" && <Button isTight aria-label={`Revoke the invitation ${one.id}`} onClick={() => onEnd(one)}>Revoke</Button> },
];

export function Invitations() {
  const found = useInvitations();
  const now = useNow();
  const [ending, setEnding] = useState<Invitation | null>(null);
  const [isInviting, setInviting] = useState(false);
  const columns = useMemo(() => columnsAt(now, setEnding), [now]);
  if (found.error && !found.data) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading />;
  const open = found.data.filter((one) => lifeOf(one, now) === "open").length;
  return (
    <>
      {found.data.length > 0 && <PickedBar><span>{plural(open, "invitation")} open of {count(found.data.length)}</span><Button isTight icon="plus" onClick={() => setInviting(true)}>Invite</Button></PickedBar>}
      {found.data.length === 0 ? (
        <Empty icon="keys" title="Nobody is invited" actions={<Button look="primary" onClick={() => setInviting(true)}>Pair a host</Button>}><p>An invitation is a token that lets so many hosts in for so long. It is told once, when it is made.</p></Empty>
      ) : <Table label="Invitations" rows={found.data} columns={columns} idOf={(one) => one.id} order={{ id: "made", isDown: false }} />}
      {ending && <End of={ending} onClose={() => setEnding(null)} />}
      {isInviting && <HostDialog onClose={() => setInviting(false)} />}
    </>
  );
}

function End({ of: one, onClose }: { of: Invitation; onClose: () => void }) {
  const end = useMutation({
    mutationFn: () => told(api.DELETE("/v1/invitations/{id}", { params: { path: { id: one.id } } })),
    onSuccess: () => {
      say("Nobody joins by it any more");
      void refresh("invitations", "audit");
      onClose();
    },
  });
  return (
    <Dialog
      title="Revoke the invitation" about={`As ${printable(one.profile)}, made by ${printable(one.created_by)}`} onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" isBusy={end.isPending} onClick={() => end.mutate()}>Revoke</Button></>}
    >
      <p>Nobody joins by it from now on{one.uses_left ? `; ${plural(one.uses_left, "host")} could have` : ""}. Hosts that joined by it stay.</p>
      {end.error && <ErrorBox error={end.error} />}
    </Dialog>
  );
}
