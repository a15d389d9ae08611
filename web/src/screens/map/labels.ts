// Names on the boxes, on a canvas of their own above: as crisp as any text, and only those there is room for.

import type { MapNode } from "./asking";
import type { Camera } from "./camera";
import type { Drawing } from "./drawing";
import type { Tree } from "./tree";
import { count, plural, printable } from "../../words";

const FAMILY = 'Inter, system-ui, "Segoe UI", Roboto, sans-serif';
/** More names than this nobody reads at once; the largest boxes have theirs. */
const MOST = 420;
const TITLE = 30;

export interface Inks {
  ink: string;
  soft: string;
  back: string;
}

export interface Named {
  tree: Tree;
  rects: Float32Array;
  nodes: readonly MapNode[];
  has: Uint8Array;
}

/** The canvas, and what of it is beyond the sides of what is seen. */
export interface Room {
  width: number;
  height: number;
  left: number;
  top: number;
}

interface Place {
  at: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

export class Labels {
  private readonly widths = new Map<string, number>();

  constructor(private readonly context: CanvasRenderingContext2D) {}

  /** `under`: shapes that become one picture with the names. */
  paint(named: Named, drawing: Drawing, camera: Camera, room: Room, depth: number, inks: Inks, under: HTMLCanvasElement | null): void {
    const { context } = this;
    const { width, height } = room;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (under) context.drawImage(under, 0, 0, width, height);
    context.textBaseline = "middle";
    for (const place of this.inSight(named, drawing, camera, width, height)) {
      const box = named.tree.boxes[place.at];
      if (!box) continue;
      context.globalAlpha = named.has[place.at] ? 1 : 0.55;
      const isOpen = box.depth < depth && box.children.length > 0;
      if (isOpen) this.title(named, place, camera, room, inks);
      else this.card(named, place, inks);
    }
    context.globalAlpha = 1;
  }

  private inSight({ rects }: Named, drawing: Drawing, camera: Camera, width: number, height: number): Place[] {
    const places: Place[] = [];
    for (const at of drawing.shown) {
      const [x, y] = [(rects[at * 4] ?? 0) * camera.scale + camera.x, (rects[at * 4 + 1] ?? 0) * camera.scale + camera.y];
      const [w, h] = [(rects[at * 4 + 2] ?? 0) * camera.scale, (rects[at * 4 + 3] ?? 0) * camera.scale];
      if (w >= 34 && x < width && y < height && x + w > 0 && y + h > 0) places.push({ at, x, y, width: w, height: h });
    }
    return places.length <= MOST ? places : places.sort((a, b) => b.width * b.height - a.width * a.height).slice(0, MOST);
  }

  /** Of an open box: in its head, and in sight as long as the box is. */
  private title({ tree }: Named, { at, x, y, width, height }: Place, camera: Camera, room: Room, inks: Inks): void {
    const box = tree.boxes[at];
    const high = TITLE * camera.scale;
    if (!box || high < 9) return;
    const size = Math.min(13, Math.max(9.5, high * 0.5));
    const [left, top] = [Math.max(x + 10, room.left + 10), Math.max(y + Math.min(high, 26) / 2, room.top + 13)];
    if (top > y + height - 10) return;
    const most = Math.min(x + width, room.width - room.left) - left - 8;
    const name = this.fitted(printable(box.name), most, `620 ${size}px ${FAMILY}`);
    if (top > y + high / 2 + 1) {
      this.context.fillStyle = inks.back;
      this.context.fillRect(left - 5, top - 10, this.wide(name) + 10, 20);
    }
    this.haloed(name, left, top, inks.ink, inks.back);
    const used = this.wide(name) + 8;
    if (size >= 11 && most - used > 60) {
      this.haloed(this.fitted(`${box.key} · ${about(tree, at)}`, most - used, `${size - 1}px ${FAMILY}`), left + used, top, inks.soft, inks.back);
    }
  }

  /** Lines may run under it. */
  private haloed(text: string, x: number, y: number, ink: string, back: string): void {
    this.context.lineJoin = "round";
    this.context.lineWidth = 4;
    this.context.strokeStyle = back;
    this.context.strokeText(text, x, y);
    this.context.fillStyle = ink;
    this.context.fillText(text, x, y);
  }

  private card(named: Named, { at, x, y, width, height }: Place, inks: Inks): void {
    const box = named.tree.boxes[at];
    if (!box || height < 11) return;
    const isHolder = box.children.length > 0;
    const size = Math.min(isHolder ? 15 : 13, Math.max(9.5, height * 0.3));
    const left = x + Math.min(12, 3 + width * 0.06);
    const most = x + width - left - 5;
    const lines = height >= size * 2.7 ? 2 : 1;
    const members = lines === 2 && !isHolder && height >= 84 ? (named.nodes[box.node]?.members ?? []) : [];
    const middle = members.length ? y + 24 : y + height / 2;
    const first = lines === 2 ? middle - size * 0.58 : middle;
    this.context.fillStyle = inks.ink;
    this.context.fillText(this.fitted(printable(box.name), most, `620 ${size}px ${FAMILY}`), left, first);
    if (lines < 2) return;
    this.context.fillStyle = inks.soft;
    this.context.fillText(this.fitted(about(named.tree, at), most, `${size - 2}px ${FAMILY}`), left, first + size * 1.3);
    this.members(members, box.workloads, left, y + 56, most, y + height - 6, inks);
  }

  /** The workloads themselves, where there is room for their names. */
  private members(members: readonly string[], all: number, x: number, y: number, width: number, bottom: number, inks: Inks): void {
    const rows = Math.floor((bottom - y) / 15);
    if (rows < 1 || members.length === 0) return;
    const columns = Math.max(1, Math.floor(width / 150));
    const room = rows * columns;
    const shown = members.length > room || all > members.length ? members.slice(0, room - 1) : members;
    this.context.fillStyle = inks.soft;
    [...shown.map(printable), ...(all > shown.length ? [`and ${count(all - shown.length)} more`] : [])].forEach((name, index) => {
      const [column, row] = [Math.floor(index / rows), index % rows];
      this.context.fillText(this.fitted(name, width / columns - 8, `11px ${FAMILY}`), x + (column * width) / columns, y + 7 + row * 15);
    });
  }

  private wide(text: string): number {
    const key = `${this.context.font}|${text}`;
    let width = this.widths.get(key);
    if (width === undefined) {
      width = this.context.measureText(text).width;
      if (this.widths.size > 20_000) this.widths.clear();
      this.widths.set(key, width);
    }
    return width;
  }

  /** As much of a text as fits, with a sign where it ends early. Sets the font. */
  private fitted(text: string, room: number, font: string): string {
    this.context.font = font;
    const all = this.wide(text);
    if (all <= room) return text;
    const most = Math.floor((text.length * (room - 8)) / all);
    return most < 1 ? "" : `${text.slice(0, most)}…`;
  }
}

/** `12 groups · 340 workloads`. */
export function about(tree: Tree, at: number): string {
  const box = tree.boxes[at];
  if (!box) return "";
  if (box.program !== undefined) return "program";
  if (box.workload) return box.workload.has_agent ? box.workload.mode : "no agent";
  if (box.isPlace) return box.children.length ? plural(box.groups, "network") : box.key;
  const workloads = plural(box.workloads, "workload");
  return box.children.length && box.node < 0 ? `${plural(box.groups, "group")} · ${workloads}` : workloads;
}
