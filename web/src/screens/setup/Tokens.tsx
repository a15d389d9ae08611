// API tokens: who has which roles, over what, until when. A secret is shown once.

import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import { Badge } from "../../ui/Badge";
import { ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog, say } from "../../ui/Over";
import { PickedBar } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, plural, printable } from "../../words";
import { type Token, useTokens } from "./asking";
import { GrantDialog } from "./GrantDialog";
import { LifeBadge } from "./LifeBadge";
import { lifeOf } from "./words";

const columnsAt = (now: number, onRevoke: (one: Token) => void): readonly Column<Token>[] => [
  { id: "name", name: "For", width: "20%", by: (one) => one.name, cell: (one) => <b>{printable(one.name)}</b> },
  { id: "roles", name: "Roles", by: (one) => one.roles.join(), cell: (one) => one.roles.map((role) => <Badge key={role}>{role}</Badge>) },
  { id: "scope", name: "Over", width: "160px", by: (one) => one.scope ?? "", cell: (one) => (one.scope ? <code>{printable(one.scope)}</code> : <span className="soft">the whole estate</span>) },
  { id: "life", name: "State", width: "104px", by: (one) => lifeOf(one, now), cell: (one) => <LifeBadge life={lifeOf(one, now)} /> },
  { id: "expires", name: "Ends", width: "110px", by: (one) => one.expires ?? "9", cell: (one) => (one.expires ? <span title={moment(one.expires)}>{ago(one.expires, now)}</span> : <span className="soft">when revoked</span>) },
  { id: "made", name: "Made", width: "190px", isExtra: true, by: (one) => -Date.parse(one.created), cell: (one) => <span className="soft" title={moment(one.created)}>{ago(one.created, now)} by {printable(one.created_by)}</span> },
  { id: "revoke", name: "", width: "100px", cell: (one) => lifeOf(one, now) === "open" && <Button isTight aria-label={`Revoke the token of ${printable(one.name)}`} onClick={() => onRevoke(one)}>Revoke</Button> },
];

export function Tokens() {
  const found = useTokens();
  const now = useNow(15_000);
  const [revoking, setRevoking] = useState<Token | null>(null);
  const [isGranting, setGranting] = useState(false);
  const columns = useMemo(() => columnsAt(now, setRevoking), [now]);
  if (found.error && !found.data) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading />;
  const open = found.data.filter((one) => lifeOf(one, now) === "open").length;
  return (
    <>
      <PickedBar><span>{plural(open, "token")} open of {count(found.data.length)}; give each person and program one of their own</span><Button isTight look="primary" icon="plus" onClick={() => setGranting(true)}>Grant a token</Button></PickedBar>
      <Table label="API tokens" rows={found.data} columns={columns} idOf={(one) => one.id} order={{ id: "made", isDown: false }} />
      {isGranting && <GrantDialog onClose={() => setGranting(false)} />}
      {revoking && <Revoke of={revoking} isLast={open === 1} onClose={() => setRevoking(null)} />}
    </>
  );
}

function Revoke({ of: one, isLast, onClose }: { of: Token; isLast: boolean; onClose: () => void }) {
  const revoke = useMutation({
    mutationFn: () => told(api.DELETE("/v1/tokens/{id}", { params: { path: { id: one.id } } })),
    onSuccess: () => {
      say(`The token of ${one.name} is refused from now on`);
      void refresh("tokens", "audit");
      onClose();
    },
  });
  return (
    <Dialog
      title={`Revoke the token of ${printable(one.name)}`} about={one.roles.join(", ")} onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" isBusy={revoke.isPending} onClick={() => revoke.mutate()}>Revoke</Button></>}
    >
      <p>Whoever uses it is refused from now on, this page too if it is logged in with it. What was done with it stays in the audit log.</p>
      {isLast && <p><b>It is the only one that is open:</b> a new one comes from <code>ringfence up DIR --new-token</code> on the controller.</p>}
      {revoke.error && <ErrorBox error={revoke.error} />}
    </Dialog>
  );
}
