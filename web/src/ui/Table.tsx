// A table of up to tens of thousands of rows: only those in sight are in the document, the native elements stay.
//
// Rows have one height. Arrow keys go from row to row, Enter opens, Space ticks. One row that opens is a stop of Tab, with
// what is in it: nobody has to tab through a thousand.

import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Check } from "./Field";
import css from "./Table.module.css";

export interface Column<T> {
  id: string;
  name: string;
  cell: (row: T) => ReactNode;
  /** What it is sorted by; without it, it is not. */
  by?: (row: T) => string | number;
  width?: string;
  isNumber?: boolean;
  /** Left out where there is little room. */
  isExtra?: boolean;
}

export interface Order {
  id: string;
  isDown: boolean;
}

interface Props<T> {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  idOf: (row: T) => string;
  order?: Order;
  opened?: string | undefined;
  onOpen?: (row: T) => void;
  picked?: ReadonlySet<string>;
  onPick?: (picked: ReadonlySet<string>) => void;
  nameOf?: (row: T) => string;
  /** The end comes into sight: more may be fetched. */
  onEnd?: (() => void) | undefined;
  /** Whoever gives the rows puts them in order; without it, they are sorted here. */
  onOrder?: (order: Order) => void;
  /** How many rows there are, where not all are given. */
  total?: number | undefined;
}

const ROW = 38;
/** The height of the head, which stays over the rows. */
const HEAD = 34;
const PAGE = 10;

const STEPS: Record<string, (at: number, end: number) => number> = {
  ArrowDown: (at) => at + 1, ArrowUp: (at) => at - 1, PageDown: (at) => at + PAGE, PageUp: (at) => at - PAGE, Home: () => 0, End: (_, end) => end,
};

/** Rows in an order, equal ones as they came. */
export function sorted<T>(rows: readonly T[], columns: readonly Pick<Column<T>, "id" | "by">[], order: Order | undefined): readonly T[] {
  const by = columns.find((column) => column.id === order?.id)?.by;
  if (!order || !by) return rows;
  const sign = order.isDown ? -1 : 1;
  const keyed = rows.map((row, index) => ({ row, index, key: by(row) }));
  const compare = (a: string | number, b: string | number): number =>
    typeof a === "string" && typeof b === "string" ? NATURAL.compare(a, b) : a < b ? -1 : a > b ? 1 : 0;
  keyed.sort((a, b) => sign * compare(a.key, b.key) || a.index - b.index);
  return keyed.map((one) => one.row);
}

/** `web-2` before `web-10`. */
const NATURAL = new Intl.Collator("en", { numeric: true });

export function Table<T>({ label, rows, columns, idOf, order: first, opened, onOpen, picked, onPick, nameOf, onEnd, onOrder, total }: Props<T>) {
  const [order, setOrder] = useState(first);
  const shown = useMemo(() => (onOrder ? rows : sorted(rows, columns, order)), [rows, columns, order, onOrder]);
  const reorder = (next: Order): void => (setOrder(next), onOrder?.(next));
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: shown.length, getScrollElement: () => scroll.current, estimateSize: () => ROW, overscan: 12, scrollMargin: 0, scrollPaddingEnd: HEAD });
  const items = virtual.getVirtualItems();
  const [last, setLast] = useState("");
  const isThere = items.some(({ index }) => shown[index] !== undefined && idOf(shown[index]) === last);
  const stop = isThere ? last : shown[items[0]?.index ?? 0] && idOf(shown[items[0]?.index ?? 0] as T);
  useLayoutEffect(() => {
    for (const row of scroll.current?.querySelectorAll<HTMLElement>("tr[tabindex]") ?? []) {
      for (const inner of row.querySelectorAll<HTMLElement>("a, button, input")) inner.tabIndex = row.tabIndex;
    }
  });
  const before = items[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);
  const isAtEnd = (items.at(-1)?.index ?? -1) >= shown.length - 1;
  useEffect(() => {
    if (isAtEnd) onEnd?.();
  }, [isAtEnd, onEnd]);

  const pick = (id: string, isOn: boolean): void => {
    const next = new Set(picked);
    if (isOn) next.add(id);
    else next.delete(id);
    onPick?.(next);
  };
  /** At once where the row is in the document: the next key is for it. */
  const focus = (index: number): void => {
    const row = (): HTMLElement | null | undefined => scroll.current?.querySelector<HTMLElement>(`[data-row="${index}"]`);
    virtual.scrollToIndex(index);
    row()?.focus({ preventScroll: true });
    if (!row()) requestAnimationFrame(() => row()?.focus({ preventScroll: true }));
  };
  const press = (event: KeyboardEvent, row: T, index: number): void => {
    if (event.target !== event.currentTarget) return;
    const goal = STEPS[event.key]?.(index, shown.length - 1);
    if (goal !== undefined) focus(Math.max(0, Math.min(shown.length - 1, goal)));
    else if (event.key === "Enter") onOpen?.(row);
    else if (event.key === " " && onPick) pick(idOf(row), !picked?.has(idOf(row)));
    else return;
    event.preventDefault();
  };
  const all = picked !== undefined && shown.length > 0 && shown.every((row) => picked.has(idOf(row)));

  return (
    <div ref={scroll} className={css.scroll} role="region" aria-label={label} tabIndex={-1}>
      <table className={css.table} aria-rowcount={(total ?? shown.length) + 1} aria-label={label}>
        <colgroup>
          {onPick && <col style={{ width: "42px" }} />}
          {columns.map((column) => <col key={column.id} className={column.isExtra ? css.extra : undefined} style={column.width ? { width: column.width } : undefined} />)}
        </colgroup>
        <thead>
          <tr aria-rowindex={1}>
            {onPick && (
              <th scope="col">
                <Check label={`Tick all ${shown.length}`} isOn={all} isPartly={!all && (picked?.size ?? 0) > 0} onChange={(isOn) => onPick(new Set(isOn ? shown.map(idOf) : []))} />
              </th>
            )}
            {columns.map((column) => (
              <Head key={column.id} column={column} order={order} onOrder={reorder} />
            ))}
          </tr>
        </thead>
        <tbody>
          {/* one cell, not a span: with columns left out a span would make room for them again */}
          {before > 0 && <tr className={css.space} aria-hidden="true"><td style={{ height: `${before}px` }} /></tr>}
          {items.map(({ index }) => {
            const row = shown[index];
            if (row === undefined) return null;
            const id = idOf(row);
            return (
              <tr
                key={id} data-row={index} aria-rowindex={index + 2} aria-selected={id === opened || picked?.has(id) || undefined}
                tabIndex={onOpen && (id === stop ? 0 : -1)} aria-label={nameOf?.(row)} onFocus={() => setLast(id)} onKeyDown={(event) => press(event, row, index)} onClick={() => onOpen?.(row)}
              >
                {onPick && (
                  <td onClick={(event) => event.stopPropagation()}>
                    <Check label={`Tick ${nameOf?.(row) ?? id}`} isOn={picked?.has(id) ?? false} onChange={(isOn) => pick(id, isOn)} />
                  </td>
                )}
                {columns.map((column) => <td key={column.id} className={lookOf(column, "number")}>{column.cell(row)}</td>)}
              </tr>
            );
          })}
          {after > 0 && <tr className={css.space} aria-hidden="true"><td style={{ height: `${after}px` }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}

const lookOf = <T,>(column: Column<T>, number: string): string | undefined =>
  [column.isNumber && number, column.isExtra && css.extra].filter(Boolean).join(" ") || undefined;

function Head<T>({ column, order, onOrder }: { column: Column<T>; order: Order | undefined; onOrder: (order: Order) => void }) {
  const isIt = order?.id === column.id;
  const sort = isIt ? (order.isDown ? "descending" : "ascending") : undefined;
  return (
    <th scope="col" aria-sort={sort} className={lookOf(column, css.number ?? "")}>
      {column.by ? (
        <button type="button" onClick={() => onOrder({ id: column.id, isDown: isIt && !order.isDown })}>
          {column.name}<i aria-hidden="true">{isIt ? (order.isDown ? "▼" : "▲") : ""}</i>
        </button>
      ) : column.name}
    </th>
  );
}
