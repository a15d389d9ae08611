// The whole map, small: what of it is in sight, and a way to be elsewhere at once. It is there once not all is in sight.

import { type PointerEvent, useEffect, useMemo, useRef } from "react";
import { around } from "./camera";
import css from "./Map.module.css";
import type { Opened } from "./near";
import type { Stage } from "./stage";
import { STATUSES } from "./verdicts";

/** More boxes than this are drawn by those that hold them. */
const MOST = 600;
const MARGIN = 0.02;

export function Minimap({ stage, shown }: { stage: Stage; shown: Opened }) {
  const frame = useRef<SVGSVGElement>(null);
  const sight = useRef<SVGRectElement>(null);
  const whole = useMemo(() => around(shown.rects, shown.ground.tree.boxes.keys()) ?? { x: 0, y: 0, width: 1, height: 1 }, [shown]);
  const boxes = useMemo(() => smallOf(shown), [shown]);
  useEffect(() => stage.watch(({ scale, x, y }) => {
    const [left, top, width, height] = [-x / scale, -y / scale, stage.width / scale, stage.height / scale];
    const isAll = left <= whole.x && top <= whole.y && left + width >= whole.x + whole.width && top + height >= whole.y + whole.height;
    frame.current?.style.setProperty("visibility", isAll ? "hidden" : "visible");
    for (const [name, value] of Object.entries({ x: left, y: top, width, height })) sight.current?.setAttribute(name, String(value));
  }), [stage, whole]);
  const go = (event: PointerEvent): void => {
    event.stopPropagation();
    if (event.buttons !== 1 || !frame.current) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(frame.current.getScreenCTM()?.inverse());
    stage.move({ ...stage.camera, x: stage.width / 2 - at.x * stage.camera.scale, y: stage.height / 2 - at.y * stage.camera.scale });
  };
  const margin = whole.width * MARGIN;
  return (
    <svg ref={frame} className={css.minimap} aria-hidden="true" viewBox={`${whole.x - margin} ${whole.y - margin} ${whole.width + 2 * margin} ${whole.height + 2 * margin}`} onPointerDown={go} onPointerMove={go}>
      {boxes.map((box) => <rect key={box.at} x={box.x} y={box.y} width={box.width} height={box.height} data-status={box.status} vectorEffect="non-scaling-stroke" />)}
      <rect ref={sight} className={css.sight} vectorEffect="non-scaling-stroke" />
    </svg>
  );
}

interface Small {
  at: number;
  x: number;
  y: number;
  width: number;
  height: number;
  status: string;
}

/** Boxes down to applications, each as what is worst in what comes to it. */
function smallOf({ ground: { tree }, rects, level }: Opened): Small[] {
  const isFew = tree.boxes.filter((box) => box.depth <= 1).length <= MOST;
  const depth = isFew ? 1 : 0;
  const worst = new Map<number, number>();
  const { lines, inner } = level(depth);
  for (const line of [...lines, ...inner.values()]) worst.set(line.destination, Math.min(line.rank, worst.get(line.destination) ?? STATUSES.length));
  return tree.boxes.flatMap((box, at): Small[] => {
    if (box.depth > depth) return [];
    const [x = 0, y = 0, width = 0, height = 0] = rects.subarray(at * 4, at * 4 + 4);
    return [{ at, x, y, width, height, status: box.depth === depth || box.children.length === 0 ? (STATUSES[worst.get(at) ?? -1] ?? "none") : "frame" }];
  });
}
