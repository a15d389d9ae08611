// A token for somebody: no more roles than they need, over no more than they own, for no longer than they stay.

import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { refresh } from "../../api/queries";
import { wrongSelector } from "../../session/selector";
import { Code, ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Check, Field, Select } from "../../ui/Field";
import { Dialog } from "../../ui/Over";
import { printable } from "../../words";
import css from "./Setup.module.css";
import { endOf, LASTS } from "./words";

const ROLES = [
  ["viewer", "Looks at everything in scope, changes nothing"], ["author", "Writes and publishes policies, labels and modes"], ["approver", "Approves what others propose"],
  ["responder", "Quarantines and releases, decides alerts, takes evidence"], ["guardrail", "Rules without a scope, forbids and the failsafe list"], ["administrator", "All of it: hosts, tokens, backups too"],
] as const;

export function GrantDialog({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [roles, setRoles] = useState<ReadonlySet<string>>(new Set(["viewer"]));
  const [scope, setScope] = useState("");
  const [lasts, setLasts] = useState("7776000");
  const grant = useMutation({
    mutationFn: () => told(api.POST("/v1/tokens", { body: { name: name.trim(), roles: [...roles], scope: scope.trim() || null, expires: endOf(lasts, Date.now()) } })),
    onSuccess: () => refresh("tokens", "audit"),
  });
  const wrong = scope.trim() === "" ? "" : wrongSelector(scope.trim());
  const toggle = (role: string, isOn: boolean): void => {
    const next = new Set(roles);
    if (isOn) next.add(role);
    else next.delete(role);
    setRoles(next);
  };
  if (grant.data) {
    return (
      <Dialog title={`The token of ${printable(name)}`} about="It is shown this once; the controller keeps only its fingerprint." onClose={onClose} foot={<Button look="primary" onClick={onClose}>I have it</Button>}>
        <Code text={grant.data.token} />
        <Note>Whoever has it may do what its roles may. Send it by a way that keeps secrets.</Note>
      </Dialog>
    );
  }
  return (
    <Dialog
      title="Grant a token" onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={grant.isPending} disabled={!name.trim() || roles.size === 0 || wrong !== ""} onClick={() => grant.mutate()}>Grant</Button></>}
    >
      <Field name="For whom" placeholder="ann, or ci-pipeline" help="Stands in the audit log beside all that is done with it." value={name} onChange={(event) => setName(event.target.value)} />
      <fieldset className={css.roles}>
        <legend>Roles</legend>
        {ROLES.map(([role, help]) => <Check key={role} isOn={roles.has(role)} onChange={(isOn) => toggle(role, isOn)}><b>{role}</b> <span className="soft">{help}</span></Check>)}
      </fieldset>
      <div className={css.pair}>
        <Field name="Only over" placeholder="app=shop" help="A label selector; empty: the whole estate." wrong={wrong || undefined} value={scope} onChange={(event) => setScope(event.target.value)} />
        <Select name="For how long" values={LASTS} value={lasts} onChange={(event) => setLasts(event.target.value)} />
      </div>
      {grant.error && <ErrorBox error={grant.error} />}
    </Dialog>
  );
}
