// Texts before and after, file by file.

import { useMemo } from "react";
import type { Changed } from "../../parts/drafting";
import { Badge } from "../../ui/Badge";
import { Diff, Empty } from "../../ui/Box";
import { printable } from "../../words";
import { counts, folded, lines } from "./lines";
import css from "./Policies.module.css";

type Shown = Pick<Changed, "file" | "kind" | "before" | "after">;

export function Changes({ changed, onOpen }: { changed: readonly Shown[]; onOpen?: (file: string) => void }) {
  if (changed.length === 0) return <Empty icon="copy" title="No difference"><p>What is written is what is in force, word for word.</p></Empty>;
  return <>{changed.map((one) => <File key={one.file} of={one} onOpen={onOpen} />)}</>;
}

function File({ of, onOpen }: { of: Shown; onOpen: ((file: string) => void) | undefined }) {
  const all = useMemo(() => lines(of.before, of.after), [of.before, of.after]);
  const { added, removed } = counts(all);
  return (
    <section className={css.change}>
      <h3>
        {onOpen ? <button type="button" className={css.link} onClick={() => onOpen(of.file)}>{printable(of.file)}</button> : printable(of.file)}
        {of.kind !== "changed" && <Badge tone={of.kind === "removed" ? "bad" : "accent"}>{of.kind}</Badge>}
        <span className={css.sum}><span className={css.plus}>+{added}</span> <span className={css.minus}>−{removed}</span></span>
      </h3>
      <Diff lines={folded(all).map((line) => ({ ...line, text: line.text.replace(/[\p{Cf}\p{Zl}\p{Zp}]/gu, "\ufffd") }))} />
    </section>
  );
}

/** What differs between two whole sets of files. */
export function between(old: Readonly<Record<string, string>>, now: Readonly<Record<string, string>>): Shown[] {
  return Object.keys({ ...old, ...now }).sort().filter((file) => old[file] !== now[file]).map((file) => ({
    file, kind: !(file in old) ? "new" : !(file in now) ? "removed" : "changed", before: old[file] ?? "", after: now[file] ?? "",
  }));
}
