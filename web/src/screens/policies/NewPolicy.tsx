// A new policy from a template: a name, whose it is, over whom. It is a draft until it is applied.

import { useState } from "react";
import { useDrafts } from "../../parts/drafts";
import { useRefusal } from "../../session/may";
import { wrongSelector } from "../../session/selector";
import { Code, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Field, Options } from "../../ui/Field";
import { Dialog } from "../../ui/Over";
import type { InForce } from "./asked";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { fileOf, TEMPLATES, wrongName } from "./templates";

export function NewPolicy({ base, onClose }: { base: InForce; onClose: () => void }) {
  const place = usePlace();
  const { drafts, write } = useDrafts();
  const [id, setId] = useState<(typeof TEMPLATES)[number]["id"]>("tiers");
  const [name, setName] = useState("");
  const [owner, setOwner] = useState("");
  const [scope, setScope] = useState("");
  const template = TEMPLATES.find((one) => one.id === id) ?? TEMPLATES[0];
  const wrong = wrongName(name.trim(), Object.keys({ ...base.files, ...drafts }));
  const needsScope = template?.isScoped === true;
  const text = template?.text({ name: name.trim() || "name", owner: owner.trim(), scope: scope.trim() || (needsScope ? `app=${name.trim() || "name"}` : "") }) ?? "";
  const wide = useRefusal("propose", { scopes: [needsScope ? scope.trim() || `app=${name.trim() || "name"}` : null] });
  const wrongScope = needsScope && scope.trim() !== "" ? wrongSelector(scope.trim()) : "";
  const isReady = name.trim() !== "" && wrong === "" && wrongScope === "" && wide === "";
  const begin = (): void => {
    const file = fileOf(name.trim());
    write(file, text, { was: base.files[file] ?? null, version: base.number });
    onClose();
    place.go("policies", { file });
  };
  return (
    <Dialog
      title="New policy" about="A draft in this browser until it is applied." isWide onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" disabled={!isReady} onClick={begin}>Begin</Button></>}
    >
      <div className={css.how}>
        <Options name="Begin with" values={TEMPLATES} chosen={id} onChoose={setId} />
        <div className={css.choice}>
          <Field name="Name" placeholder="shop-prod" value={name} wrong={wrong || undefined} onChange={(event) => setName(event.target.value)} onKeyDown={(event) => event.key === "Enter" && isReady && begin()} />
          <Field name="Owner" placeholder="team-shop" help="Who answers for it." value={owner} onChange={(event) => setOwner(event.target.value)} />
          {needsScope && <Field name="Scope" placeholder={`app=${name.trim() || "shop"}`} help="A label selector, joined to every selector of the policy." wrong={wrongScope || (name.trim() !== "" ? wide : "") || undefined} value={scope} onChange={(event) => setScope(event.target.value)} />}
          {!needsScope && wide !== "" && <Note>{wide}</Note>}
        </div>
      </div>
      <Code text={text} />
    </Dialog>
  );
}
