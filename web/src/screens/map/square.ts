// A matrix as rows of cells, and what is worst in it.

import type { MatrixView } from "./asking";
import { rankOf, type Status } from "./verdicts";

export type Cell = MatrixView["cells"][number];

/** Cells by `row * axes + column`. */
export const cellsOf = (view: MatrixView): Map<number, Cell> =>
  new Map(view.cells.map((cell) => [cell.source * view.axes.length + cell.destination, cell]));

/** The most pressing of what a cell holds: under the draft where one is asked about. */
export function worst(cell: Cell, isDraft: boolean): Status {
  const statuses = isDraft && cell.draft ? cell.draft : cell.statuses;
  return (Object.keys(statuses) as Status[]).filter((status) => statuses[status]).sort((a, b) => rankOf(a) - rankOf(b))[0] ?? cell.status;
}

/** Whether the draft says anything else of it. */
export const differs = (cell: Cell): boolean =>
  cell.draft !== null && [...new Set([...Object.keys(cell.draft), ...Object.keys(cell.statuses)])].some((status) => (cell.draft?.[status] ?? 0) !== (cell.statuses[status] ?? 0));

const STEPS: Record<string, readonly [number, number]> = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** Where a key leads from a cell; null: nowhere. */
export function stepped(at: readonly [number, number], key: string, size: number): readonly [number, number] | null {
  const step = STEPS[key];
  if (key === "Home") return [at[0], 0];
  if (key === "End") return [at[0], size - 1];
  if (!step) return null;
  return [Math.min(size - 1, Math.max(0, at[0] + step[0])), Math.min(size - 1, Math.max(0, at[1] + step[1]))];
}
