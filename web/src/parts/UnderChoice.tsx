// In force, or under a draft; and under which, where there are several.

import { Choice } from "../ui/Box";
import { Select } from "../ui/Field";
import type { Under } from "./under";

export function UnderChoice({ under, onChoose }: { under: Under; onChoose: (id: string) => void }) {
  const { id, offered } = under;
  const [first] = offered[0] ?? [""];
  const title = first ? "As unsaved policies or a proposal would judge it" : "There are no unsaved policies, and no proposal waits";
  return (
    <>
      {id && offered.length > 1 && <Select name="Which draft" isTight values={offered} value={id} onChange={(event) => onChoose(event.target.value)} />}
      <Choice
        label="Policy" chosen={id ? "draft" : "active"} onChoose={(one) => onChoose(one === "draft" ? id || first : "")}
        values={[{ id: "active", name: "Active", title: "As policy in force judges it" }, { id: "draft", name: "Draft", title, isOff: !first }]}
      />
      {id && offered.length === 1 && <span className="soft small">{offered[0]?.[1]}</span>}
    </>
  );
}
