// The map while it is looked at: where the camera is, which level is open, what the pointer is over; it paints when
// something changed and not otherwise. React tells it what there is; it tells React what was pointed at.

import { around, type Camera, fit, mixed, type Rect, zoomed } from "./camera";
import type { Bundle, Level } from "./bundles";
import { boxAt, draw, type Drawing, type Focus, lineAt, lineKey, type Painter, PARTS, type Palette } from "./drawing";
import { type Inks, Labels, type Named } from "./labels";
import { MOST_GROUPS } from "./near";
import { isWithin } from "./tree";
import { LOOKS, STATUSES } from "./verdicts";

export interface Picture extends Named {
  /** How many of its deepest levels are seen from near only: workloads, and programs. */
  near: number;
  /** What is drawn with boxes open down to a level; asked for again and again. */
  level: (depth: number) => Level;
}

export interface Under {
  box: number;
  line: Bundle | null;
  x: number;
  y: number;
}

export interface Told {
  /** Groups in sight that are near enough to be opened to their workloads, and whether these are to their programs. */
  near: (boxes: readonly number[], isNearest: boolean) => void;
  over: (under: Under) => void;
  opened: (under: Under) => void;
}

/** Boxes of a level open once half of them are this wide. */
const LEGIBLE = { holder: 30, leaf: 50 };
/** From these scales on groups open to their workloads, and these to their programs; they are asked for a little before. */
const NEAR = [2.3, 5.6] as const;
const SOON = 0.85;
/** How large a flight to one group shows it, and to anything else. */
const CLOSE = 3.2;
const USUAL = 1.15;
const FLIGHT_MS = 320;
const REACH = 7;
/** So long after the last movement the map rests. */
const REST_MS = 130;
/** And at least so many frames: where each takes long, hands move on between them. */
const REST_FRAMES = 3;
/** Slow drawing: while it moves the picture is moved, and this share beyond each side is drawn beforehand. */
const BEYOND = 0.16;
const SLOW_MS = 34;
const PATIENCE = 6;

export class Stage {
  camera: Camera = { scale: 1, x: 0, y: 0 };
  drawing: Drawing | null = null;
  depth = -1;
  private picture: Picture | null = null;
  private focused: Focus = { box: -1, line: "", isOfChanges: false };
  private inks: Inks = { ink: "", soft: "", back: "" };
  private readonly labels: Labels | null;
  private readonly openFrom: number[] = [];
  private asked = 0;
  private flight: { from: Camera; since: number } | null = null;
  /** What it flew to, until somebody moves the map: it stays in sight when the room changes. */
  private anchor: Rect | null = null;
  private closest = USUAL;
  private readonly watchers = new Set<(camera: Camera) => void>();
  private nearby = "";
  private isStale = true;
  private painted = 0;
  private movedAt = -Infinity;
  private framedAt = 0;
  private lateFrames = 0;
  private stillFrames = 0;
  private seenMoveAt = -Infinity;
  /** The camera of the last real picture. */
  private shot: Camera = this.camera;

  /** `world` holds the canvases: shapes, and words above them. `isSlow`: no graphics card draws them. */
  constructor(readonly host: HTMLElement, private readonly world: HTMLElement, readonly painter: Painter, private readonly shapes: HTMLCanvasElement, private readonly words: HTMLCanvasElement, readonly told: Told, private isSlow: boolean) {
    const context = words.getContext("2d");
    this.labels = context && new Labels(context);
    this.dress();
  }

  get width(): number {
    return this.host.clientWidth;
  }

  get height(): number {
    return this.host.clientHeight;
  }

  /** Another picture; the camera stays unless it is told to move. */
  show(picture: Picture): void {
    this.picture = picture;
    this.openFrom.length = 0;
    const deepest = picture.tree.depth - picture.near;
    for (let depth = 1; depth <= deepest; depth++) {
      const widths = picture.tree.boxes.flatMap((box, at) => (box.depth === depth && !box.isPlace ? [picture.rects[at * 4 + 2] ?? 0] : [])).sort((a, b) => a - b);
      this.openFrom.push((depth === deepest ? LEGIBLE.leaf : LEGIBLE.holder) / (widths[widths.length >> 1] ?? 1));
    }
    this.openFrom.push(...NEAR.slice(0, picture.near));
    this.redraw();
  }

  focus(focus: Focus): void {
    this.focused = focus;
    this.redraw();
  }

  /** Colours as the theme has them. */
  dress(): void {
    const probe = document.createElement("i");
    this.host.append(probe);
    const colourOf = (token: string): string => {
      probe.style.color = `var(${token})`;
      return getComputedStyle(probe).color;
    };
    const tokens = [...STATUSES.map((status) => LOOKS[status].colour), ...PARTS];
    const palette: Palette = tokens.map((token) => {
      const [r = 0, g = 0, b = 0, a = 1] = (colourOf(token).match(/[\d.]+/g) ?? []).map(Number);
      return [r / 255, g / 255, b / 255, a];
    });
    this.inks = { ink: colourOf("--ink"), soft: colourOf("--ink-soft"), back: colourOf("--card") };
    probe.remove();
    this.painter.colour(palette);
    this.ask();
  }

  redraw(): void {
    this.isStale = true;
    if (this.isSlow && this.drawing) this.movedAt = performance.now();
    this.ask();
  }

  ask(): void {
    this.asked ||= requestAnimationFrame((now) => this.frame(now));
  }

  fly(boxes: Iterable<number>, isAtOnce = false): void {
    const [all, picture] = [[...boxes], this.picture];
    const rect = picture && around(picture.rects, all);
    if (!rect) return;
    const one = all.length === 1 ? picture.tree.boxes[all[0] ?? -1] : undefined;
    this.closest = one?.program !== undefined ? 4 * CLOSE : one?.workload ? 2 * CLOSE : one && one.node >= 0 && !one.isPlace ? CLOSE : USUAL;
    this.flyTo(rect, isAtOnce);
  }

  private flyTo(rect: Rect, isAtOnce: boolean): void {
    this.anchor = rect;
    const isStill = isAtOnce || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.flight = isStill ? null : { from: this.camera, since: performance.now() };
    if (isStill) this.camera = fit(rect, this.width, this.height, this.closest);
    this.ask();
  }

  /** Told where the camera is now, and whenever it moved; until the answer is called. */
  watch(watcher: (camera: Camera) => void): () => void {
    this.watchers.add(watcher);
    watcher(this.camera);
    return () => this.watchers.delete(watcher);
  }

  /** There is more or less room. */
  resized(): void {
    if (this.anchor && !this.flight) this.camera = fit(this.anchor, this.width, this.height, this.closest);
    this.ask();
  }

  move(camera: Camera): void {
    [this.flight, this.anchor] = [null, null];
    this.camera = camera;
    this.movedAt = performance.now();
    this.ask();
  }

  zoom(factor: number, x = this.width / 2, y = this.height / 2): void {
    this.move(zoomed(this.camera, factor, x, y));
  }

  under(x: number, y: number): Under {
    const { drawing, picture, camera } = this;
    if (!drawing || !picture) return { box: -1, line: null, x, y };
    const [wx, wy] = [(x - camera.x) / camera.scale, (y - camera.y) / camera.scale];
    const box = boxAt(drawing, picture.rects, wx, wy);
    const isCard = box >= 0 && !this.isOpen(box);
    return { box, line: isCard ? null : lineAt(drawing, wx, wy, REACH / camera.scale), x, y };
  }

  isOpen(box: number): boolean {
    const one = this.picture?.tree.boxes[box];
    return one !== undefined && one.depth < this.depth && one.children.length > 0;
  }

  /** The closed box nearest in a direction. */
  neighbour(from: number, dx: number, dy: number): number {
    const { drawing, picture } = this;
    if (!drawing || !picture) return -1;
    const middle = (box: number): [number, number] => [(picture.rects[box * 4] ?? 0) + (picture.rects[box * 4 + 2] ?? 0) / 2, (picture.rects[box * 4 + 1] ?? 0) + (picture.rects[box * 4 + 3] ?? 0) / 2];
    const cards = drawing.shown.filter((box) => !this.isOpen(box));
    const near = cards.find((box) => box === from || isWithin(picture.tree, box, from) || isWithin(picture.tree, from, box));
    if (from < 0 || near !== from) return near ?? cards[0] ?? -1;
    const [x, y] = middle(from);
    let [best, least] = [from, Infinity];
    for (const box of cards) {
      const [ox, oy] = middle(box);
      const ahead = (ox - x) * dx + (oy - y) * dy;
      const aside = Math.abs((ox - x) * dy + (oy - y) * dx);
      if (ahead > 1 && aside <= ahead * 2 && ahead + 2 * aside < least) [best, least] = [box, ahead + 2 * aside];
    }
    return best;
  }

  /** A box comes into sight if it is not. */
  reveal(box: number): void {
    const rect = this.picture && around(this.picture.rects, [box]);
    if (!rect) return;
    const { scale } = this.camera;
    const [x, y] = [rect.x * scale + this.camera.x, rect.y * scale + this.camera.y];
    if (x >= 0 && y >= 0 && x + rect.width * scale <= this.width && y + rect.height * scale <= this.height) return;
    this.move({ scale, x: this.width / 2 - (rect.x + rect.width / 2) * scale, y: this.height / 2 - (rect.y + rect.height / 2) * scale });
  }

  close(): void {
    cancelAnimationFrame(this.asked);
    this.asked = -1;
    this.painter.close();
  }

  private frame(now: number): void {
    this.asked = 0;
    if (this.flight && this.anchor) {
      const share = Math.min(1, (now - this.flight.since) / FLIGHT_MS);
      this.camera = mixed(this.flight.from, fit(this.anchor, this.width, this.height, this.closest), 1 - (1 - share) ** 3);
      if (share < 1) this.ask();
      else this.flight = null;
    }
    const { picture, width, height } = this;
    if (!picture || width === 0 || height === 0) return;
    for (const watcher of this.watchers) watcher(this.camera);
    if (this.isMoving(now)) return this.shift();
    const depth = this.openFrom.filter((least) => this.camera.scale >= least).length;
    if (this.isStale || depth !== this.depth) {
      this.isStale = false;
      this.depth = depth;
      this.drawing = draw(picture.tree, picture.rects, picture.level(depth), depth, picture.has, this.focused);
      this.painter.put(this.drawing);
      this.host.dataset.level = String(depth);
      this.host.dataset.edges = String(this.drawing.bundles.reduce((sum, one) => sum + one.edges.length, 0));
      this.host.dataset.lines = String(this.drawing.bundles.length);
    }
    const [left, top] = this.isSlow ? [Math.round(width * BEYOND), Math.round(height * BEYOND)] : [0, 0];
    const shifted = { ...this.camera, x: this.camera.x + left, y: this.camera.y + top };
    this.world.style.inset = `${-top}px ${-left}px`;
    this.world.style.transform = "";
    this.shot = this.camera;
    this.painter.paint(shifted, width + 2 * left, height + 2 * top);
    this.write(picture, shifted, width + 2 * left, height + 2 * top, depth, left, top);
    this.tellNear(picture, width, height);
    this.host.dataset.frames = String(++this.painted);
    if (this.painted === 1) performance.mark("map-first-picture");
  }

  private tellNear({ tree, rects }: Picture, width: number, height: number): void {
    const { scale, x, y } = this.camera;
    const [isNear, isNearest] = [scale >= NEAR[0] * SOON, scale >= NEAR[1] * SOON];
    const found: { box: number; far: number }[] = [];
    tree.boxes.forEach((box, at) => {
      if (!isNear || box.node < 0 || box.isPlace || box.workload) return;
      const [left, top] = [(rects[at * 4] ?? 0) * scale + x, (rects[at * 4 + 1] ?? 0) * scale + y];
      const [right, bottom] = [left + (rects[at * 4 + 2] ?? 0) * scale, top + (rects[at * 4 + 3] ?? 0) * scale];
      if (right > 0 && bottom > 0 && left < width && top < height) found.push({ box: at, far: Math.hypot((left + right - width) / 2, (top + bottom - height) / 2) });
    });
    const boxes = found.sort((a, b) => a.far - b.far).slice(0, MOST_GROUPS).map((one) => one.box).sort((a, b) => a - b);
    const told = `${boxes.join()} ${isNearest}`;
    if (told !== this.nearby) this.told.near(boxes, isNearest);
    this.nearby = told;
  }

  /** Whether to move the picture there is. Where frames come late, drawing is slow from then on. */
  private isMoving(now: number): boolean {
    if (this.flight) this.movedAt = now;
    this.stillFrames = this.movedAt === this.seenMoveAt ? this.stillFrames + 1 : 0;
    this.seenMoveAt = this.movedAt;
    const isIt = now - this.movedAt < REST_MS || this.stillFrames < REST_FRAMES;
    const between = now - this.framedAt;
    this.framedAt = now;
    if (isIt && !this.isSlow) {
      this.lateFrames = between > SLOW_MS && between < 1000 ? this.lateFrames + 1 : Math.max(0, this.lateFrames - 1);
      this.isSlow = this.lateFrames > PATIENCE;
    }
    return isIt && this.isSlow && this.drawing !== null;
  }

  private shift(): void {
    const by = this.camera.scale / this.shot.scale;
    const [left, top] = [Math.round(this.width * BEYOND), Math.round(this.height * BEYOND)];
    const x = this.camera.x - this.shot.x * by + left - left * by;
    const y = this.camera.y - this.shot.y * by + top - top * by;
    // Whole pixels are copied, parts of them are computed.
    this.world.style.transform = by === 1 ? `translate(${Math.round(x)}px, ${Math.round(y)}px)` : `translate(${x}px, ${y}px) scale(${by})`;
    this.ask();
  }

  private write(picture: Picture, camera: Camera, width: number, height: number, depth: number, left: number, top: number): void {
    const [wide, high] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    if (this.words.width !== wide || this.words.height !== high) [this.words.width, this.words.height] = [wide, high];
    // One picture to be moved, and not two that the browser lays over each other in every frame.
    this.shapes.style.display = this.isSlow ? "none" : "";
    if (this.drawing) this.labels?.paint(picture, this.drawing, camera, { width, height, left, top }, depth, this.inks, this.isSlow ? this.shapes : null);
  }
}

export const isSameUnder = (a: Under, b: Under): boolean => a.box === b.box && (a.line && lineKey(a.line)) === (b.line && lineKey(b.line));
