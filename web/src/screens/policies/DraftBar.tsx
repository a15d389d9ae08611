// Over the list and the editor, while something is unsaved: what it is, and the way on.

import { useMemo, useState } from "react";
import { useStatus } from "../../api/queries";
import type { Changed } from "../../parts/drafting";
import { useDrafts } from "../../parts/drafts";
import { useMay } from "../../session/session";
import { Button } from "../../ui/Button";
import { Dialog, say } from "../../ui/Over";
import { PickedBar } from "../../ui/Page";
import { plural, printable } from "../../words";
import { ApplyDialog } from "./ApplyDialog";
import type { InForce } from "./asked";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { overOf } from "./scopes";

export function DraftBar({ base, changed }: { base: InForce; changed: readonly Changed[] }) {
  const place = usePlace();
  const { isUnkept } = useDrafts();
  const [doing, setDoing] = useState<"apply" | "discard" | null>(null);
  const mayApply = useMay("publish") && useStatus().data?.needs_approval !== true;
  const over = useMemo(() => overOf(changed), [changed]);
  const stale = changed.filter((one) => one.isStale);
  const [first] = changed;
  return (
    <PickedBar>
      <b>{plural(changed.length, "draft")}</b>
      <span className={css.files}>
        {changed.map((one) => (
          <button key={one.file} type="button" className={css.file} aria-pressed={place.get("file") === one.file} onClick={() => place.put({ file: one.file, line: "", beside: place.get("beside") }, true)}>
            <i aria-hidden="true">{MARK[one.kind]}</i>{printable(one.file)}<span className="hidden"> {one.kind}</span>
          </button>
        ))}
      </span>
      {isUnkept && <span className={css.alarm} role="alert">This browser keeps no more: apply before you close this tab.</span>}
      {stale.length > 0 && <span className={css.alarm}>{plural(stale.length, "file")} changed in force meanwhile</span>}
      <span className={css.last}>
        {place.beside !== "plan" && first && <Button isTight onClick={() => place.put({ file: place.get("file") || first.file, beside: "plan" }, true)}>What they do</Button>}
        <Button isTight look="quiet" onClick={() => setDoing("discard")}>Discard all</Button>
        <Button isTight look="primary" needs="propose" over={over} disabled={stale.length > 0} title={stale.length ? "Bring the drafts onto what is in force first" : undefined} onClick={() => setDoing("apply")}>{mayApply ? "Apply…" : "Propose…"}</Button>
      </span>
      {doing === "apply" && <ApplyDialog base={base} changed={changed} onClose={() => setDoing(null)} />}
      {doing === "discard" && <DiscardDialog changed={changed} onClose={() => setDoing(null)} />}
    </PickedBar>
  );
}

const MARK = { new: "+", changed: "~", removed: "−" } as const;

function DiscardDialog({ changed, onClose }: { changed: readonly Changed[]; onClose: () => void }) {
  const { discard } = useDrafts();
  const go = (): void => {
    discard(...changed.map((one) => one.file));
    say(`${plural(changed.length, "draft")} discarded`);
    onClose();
  };
  return (
    <Dialog
      title={`Discard ${plural(changed.length, "draft")}`} about="What is written there is lost. What is in force stays." onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="danger" onClick={go}>Discard</Button></>}
    >
      <ul>{changed.map((one) => <li key={one.file}>{printable(one.file)} <span className="soft">{one.kind}</span></li>)}</ul>
    </Dialog>
  );
}
