// The same question as a square: rows open connections, columns are connected to. A cell is as bad as its worst.

import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import { Badge } from "../../ui/Badge";
import { Choice, ErrorBox, Loading } from "../../ui/Box";
import { brief, count, plural, printable } from "../../words";
import type { MatrixView, Pen, Question } from "./asking";
import css from "./Matrix.module.css";
import { NoMap } from "./NoMap";
import { type Cell, cellsOf, differs, stepped, worst } from "./square";
import { useMatrix } from "./useMap";
import { LOOKS, type Status } from "./verdicts";

interface Props {
  question: Question;
  draft: Pen | null;
  isOfSegments: boolean;
  opened: string;
  onKind: (isOfSegments: boolean) => void;
  onOpen: (from: string, to: string, isPair: boolean) => void;
  onAll: () => void;
}

const MARKS: Record<Status, string> = { unheld: "⊘", "would-block": "!", "no-policy": "?", blocked: "✕", allowed: "✓" };

export function Matrix({ question, draft, isOfSegments, opened, onKind, onOpen, onAll }: Props) {
  const found = useMatrix(question, draft, isOfSegments);
  const view = found.data;
  return (
    <div className={css.matrix}>
      <div className={css.head}>
        <Choice label="Rows and columns" chosen={isOfSegments ? "segments" : "labels"} onChoose={(kind) => onKind(kind === "segments")} values={[{ id: "labels", name: "Labels" }, { id: "segments", name: "Segments" }]} />
        {view && view.truncated > 0 && <span className="soft small">The busiest {count(view.axes.length)}; {count(view.truncated)} more are left out. Group by fewer labels, or narrow the question.</span>}
      </div>
      {found.error && !view ? <ErrorBox error={found.error} onRetry={() => void found.refetch()} /> : !view ? <Loading lines={8} /> : view.cells.length === 0 ? <NoMap isEmpty={false} onAll={onAll} /> : (
        <Square view={view} isDraft={draft !== null} opened={opened} onOpen={(from, to) => onOpen(from, to, isOfSegments)} />
      )}
    </div>
  );
}

function Square({ view, isDraft, opened, onOpen }: { view: MatrixView; isDraft: boolean; opened: string; onOpen: (from: string, to: string) => void }) {
  const { axes } = view;
  const cells = useMemo(() => cellsOf(view), [view]);
  const [last, setAt] = useState<readonly [number, number]>([0, 0]);
  const at = [Math.min(last[0], axes.length - 1), Math.min(last[1], axes.length - 1)] as const;
  const table = useRef<HTMLTableElement>(null);
  const open = (row: number, column: number): void => {
    const [from, to] = [axes[row], axes[column]];
    if (from && to && from.kind !== "rest" && to.kind !== "rest" && cells.has(row * axes.length + column)) onOpen(from.id, to.id);
  };
  const press = (event: KeyboardEvent): void => {
    const next = stepped(at, event.key, axes.length);
    if (event.key === "Enter" || event.key === " ") open(...at);
    else if (next) {
      setAt(next);
      table.current?.querySelector<HTMLElement>(`[data-cell="${next.join()}"]`)?.focus();
    } else return;
    event.preventDefault();
  };
  return (
    <div className={css.scroll}>
      <table ref={table} role="grid" aria-label="Matrix: rows connect to columns" onKeyDown={press}>
        <thead>
          <tr><th scope="col" className={css.corner}><span>from ↓ to →</span></th>{axes.map((axis) => <th key={axis.id} scope="col"><span title={printable(axis.name)}>{printable(axis.name)}</span></th>)}</tr>
        </thead>
        <tbody>
          {axes.map((axis, row) => (
            <tr key={axis.id}>
              <th scope="row" title={`${printable(axis.name)}, ${plural(axis.workloads, "workload")}`}><span>{printable(axis.name)}</span>{axis.is_crown_jewel && <Badge tone="accent" mark="◆">jewel</Badge>}</th>
              {axes.map((other, column) => (
                <Spot key={other.id} cell={cells.get(row * axes.length + column)} isDraft={isDraft} isAt={at[0] === row && at[1] === column} isOpened={opened === `${axis.id} ${other.id}`} place={`${row},${column}`} words={`${printable(axis.name)} to ${printable(other.name)}`} onOpen={() => (setAt([row, column]), open(row, column))} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Spot({ cell, isDraft, isAt, isOpened, place, words, onOpen }: { cell: Cell | undefined; isDraft: boolean; isAt: boolean; isOpened: boolean; place: string; words: string; onOpen: () => void }) {
  if (!cell) return <td role="gridcell" data-cell={place} tabIndex={isAt ? 0 : -1} aria-label={`${words}: nothing seen`} />;
  const status = worst(cell, isDraft);
  const shares = Object.entries(cell.statuses).map(([one, n]) => `${count(n)} ${LOOKS[one as Status].word}`).join(", ");
  return (
    <td role="gridcell" data-cell={place} tabIndex={isAt ? 0 : -1} data-status={status} aria-selected={isOpened} title={`${words}: ${shares}`} aria-label={`${words}: ${brief(cell.connections)}, ${shares}`} className={isDraft && differs(cell) ? css.changed : undefined} onClick={onOpen}>
      <i aria-hidden="true">{MARKS[status]}</i>{brief(cell.connections)}
    </td>
  );
}
