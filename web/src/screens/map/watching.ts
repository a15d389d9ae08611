// What hands do on the map: drag, wheel, pinch, keys. Keys do all that a pointer does.

import type { Stage, Under } from "./stage";
import { isSameUnder } from "./stage";

const CLICK_PX = 4;
const STEPS: Record<string, readonly [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export interface Keyed {
  /** The box that keys are at. */
  at: () => number;
  go: (box: number) => void;
  open: (box: number) => void;
  all: () => void;
  leave: () => void;
}

/** Listens until the signal ends. */
export function watch(stage: Stage, keyed: Keyed, signal: AbortSignal): void {
  const { host } = stage;
  let [isDown, moved, x, y] = [false, 0, 0, 0];
  let last: Under = { box: -1, line: null, x: 0, y: 0 };
  let pending = 0;
  const on = <K extends keyof HTMLElementEventMap>(kind: K, listener: (event: HTMLElementEventMap[K]) => void): void => host.addEventListener(kind, listener, { signal, passive: false });
  const at = (event: MouseEvent): [number, number] => {
    const rect = host.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  const tell = (under: Under): void => {
    if (!isSameUnder(under, last)) stage.told.over((last = under));
  };

  on("pointerdown", (event) => {
    if (event.button !== 0 || (event.target as HTMLElement).closest("button, a, input, svg")) return;
    [isDown, moved, [x, y]] = [true, 0, at(event)];
    host.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    const [nx, ny] = at(event);
    if (isDown) {
      moved += Math.hypot(nx - x, ny - y);
      if (moved > CLICK_PX) stage.move({ ...stage.camera, x: stage.camera.x + nx - x, y: stage.camera.y + ny - y });
      [x, y] = [nx, ny];
    } else if (!pending) {
      pending = requestAnimationFrame(() => {
        pending = 0;
        if (!signal.aborted) tell(stage.under(nx, ny));
      });
    }
  });
  on("pointerup", (event) => {
    if (!isDown) return;
    isDown = false;
    if (moved <= CLICK_PX) stage.told.opened(stage.under(...at(event)));
  });
  on("pointercancel", () => void (isDown = false));
  on("pointerleave", () => tell({ box: -1, line: null, x: 0, y: 0 }));
  on("dblclick", (event) => {
    const { box } = stage.under(...at(event));
    if (box >= 0) stage.fly([box]);
  });
  on("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    stage.zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event));
  });
  on("keydown", (event) => {
    if (event.target !== host || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step) {
      const next = stage.neighbour(keyed.at(), ...step);
      keyed.go(next);
      stage.reveal(next);
    } else if (event.key === "Enter" && keyed.at() >= 0) keyed.open(keyed.at());
    else if (event.key === "+" || event.key === "=") stage.zoom(1.3);
    else if (event.key === "-") stage.zoom(1 / 1.3);
    else if (event.key === "0") keyed.all();
    else if (event.key === "Escape") keyed.leave();
    else return;
    event.preventDefault();
  });
}
