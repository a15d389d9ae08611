// Somebody changed the file in force while it was being written here: nothing is lost, and nothing is overwritten unseen.

import { useState } from "react";
import type { Changed } from "../../parts/drafting";
import { useDrafts } from "../../parts/drafts";
import { Button } from "../../ui/Button";
import { Dialog, say } from "../../ui/Over";
import { printable } from "../../words";
import type { InForce } from "./asked";
import { Changes } from "./Changes";
import css from "./Policies.module.css";

export function Stale({ base, change }: { base: InForce; change: Changed }) {
  const { drafts, rebase, discard } = useDrafts();
  const [isOpen, setOpen] = useState(false);
  const [isClash, setClash] = useState(false);
  const draft = drafts[change.file];
  const now = base.files[change.file] ?? null;
  const join = (): void => (rebase(change.file, now, base.number, "both") ? say(`Both changes are in ${change.file}`) : setClash(true));
  if (!draft) return null;
  return (
    <div className={css.stale} role="status">
      <p>
        <b>Version {base.number}</b>{base.actor && <> by {printable(base.actor)}</>} changed this file after your draft began{draft.version ? <> from version {draft.version}</> : null}.
        {isClash && <> Both touch the same lines: bring the other change in by hand, then keep yours.</>}
      </p>
      <span>
        <Button isTight onClick={() => setOpen(true)}>What changed</Button>
        {!isClash && <Button isTight look="primary" onClick={join}>Bring both together</Button>}
        <Button isTight onClick={() => rebase(change.file, now, base.number, "mine")}>Keep mine</Button>
        <Button isTight onClick={() => discard(change.file)}>Take theirs</Button>
      </span>
      {isOpen && (
        <Dialog title={`What changed in ${printable(change.file)}`} about={`From version ${draft.version || "none"} to version ${base.number}`} isWide onClose={() => setOpen(false)}>
          <Changes changed={[{ file: change.file, kind: now === null ? "removed" : "changed", before: draft.was ?? "", after: now ?? "" }]} />
        </Dialog>
      )}
    </div>
  );
}
