// The map in the page: canvases, what the pointer is over in words, and what keys are at for who cannot see it.

import { type ReactNode, useEffect, useRef, useState } from "react";
import { Badge } from "../../ui/Badge";
import { ErrorBox } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { count, plural, printable } from "../../words";
import { useTheme } from "../../shell/theme";
import type { MapView } from "./asking";
import type { Bundle } from "./bundles";
import { lineKey } from "./drawing";
import { flatPainter } from "./flat";
import { about } from "./labels";
import css from "./Map.module.css";
import { Minimap } from "./Minimap";
import type { Opened } from "./near";
import { Stage, type Under } from "./stage";
import { trail, type Tree } from "./tree";
import type { Sight } from "./useNear";
import { LOOKS, STATUSES } from "./verdicts";
import { watch } from "./watching";

export interface Chosen {
  box: number;
  line: string;
}

interface Props {
  view: MapView;
  shown: Opened;
  onNear: (sight: Sight) => void;
  isDraft: boolean;
  chosen: Chosen;
  /** The box to fly to; a new object each time. */
  goal: { box: number } | null;
  onBox: (box: number) => void;
  onLine: (line: Bundle) => void;
  onNothing: () => void;
  children?: ReactNode;
}

const NOWHERE: Under = { box: -1, line: null, x: 0, y: 0 };

const hidden = (kind: string): HTMLElement => {
  const made = document.createElement(kind);
  made.setAttribute("aria-hidden", "true");
  return made;
};

/** What draws is fetched while the answer is still being waited for. */
export const prepare = (): Promise<unknown> => import("./gl");

/** A stage over two canvases, by WebGL where there is any. */
async function raise(host: HTMLElement, told: Stage["told"]): Promise<Stage> {
  const [world, shapes, words] = [hidden("div"), hidden("canvas") as HTMLCanvasElement, hidden("canvas") as HTMLCanvasElement];
  world.className = css.world ?? "";
  world.append(shapes, words);
  host.prepend(world);
  const gl = glKind();
  const painter = gl === "none" ? null : await import("./gl").then(({ glPainter }) => glPainter(shapes)).catch(() => null);
  if (painter) return new Stage(host, world, painter, shapes, words, told, gl === "software");
  const flat = hidden("canvas") as HTMLCanvasElement;
  shapes.replaceWith(flat);
  return new Stage(host, world, flatPainter(flat), flat, words, told, true);
}

/** Whether there is WebGL, and whether a graphics card does it. */
function glKind(): "card" | "software" | "none" {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return "none";
  const told = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name) ? "software" : "card";
}

export function MapCanvas({ view, shown, isDraft, chosen, goal, onNear, onBox, onLine, onNothing, children }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const [stage, setStage] = useState<Stage | null>(null);
  const [over, setOver] = useState<Under>(NOWHERE);
  const [at, setAt] = useState(-1);
  const [error, setError] = useState<unknown>(null);
  const theme = useTheme();
  const called = useRef({ onNear, onBox, onLine, onNothing, at, shown });
  called.current = { onNear, onBox, onLine, onNothing, at, shown };

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const stop = new AbortController();
    let made: Stage | null = null;
    const opened = ({ line, box }: Under): void => (line ? called.current.onLine(line) : box >= 0 ? called.current.onBox(box) : called.current.onNothing());
    const near = (boxes: readonly number[], isNearest: boolean): void => called.current.onNear({ groups: boxes.map((box) => called.current.shown.ground.tree.boxes[box]?.id ?? ""), isNearest });
    raise(element, { over: setOver, opened, near }).then((one) => {
      made = one;
      if (stop.signal.aborted) return one.close();
      watch(one, { at: () => called.current.at, go: setAt, open: (box) => called.current.onBox(box), all: () => one.fly(called.current.shown.ground.asked), leave: () => (setAt(-1), called.current.onNothing()) }, stop.signal);
      setStage(one);
    }, setError);
    const resized = new ResizeObserver(() => made?.resized());
    resized.observe(element);
    return () => (stop.abort(), resized.disconnect(), made?.close(), element.querySelector(`.${css.world}`)?.remove());
  }, []);
  useEffect(() => {
    stage?.dress();
    const system = matchMedia("(prefers-color-scheme: dark)");
    const changed = (): void => stage?.dress();
    system.addEventListener("change", changed);
    return () => system.removeEventListener("change", changed);
  }, [stage, theme]);

  const asked = useRef("");
  useEffect(() => {
    if (!stage) return;
    const { ground, rects, level, near } = shown;
    stage.show({ tree: ground.tree, rects, nodes: ground.nodes, has: ground.has, level, near });
    const wanted = ground.asked.map((box) => ground.tree.boxes[box]?.id).join("\n");
    if (wanted !== asked.current) stage.fly(ground.asked, asked.current === "");
    asked.current = wanted;
  }, [stage, shown]);
  useEffect(() => {
    if (stage && goal && goal.box >= 0) stage.fly([goal.box]);
  }, [stage, goal]);
  useEffect(() => {
    const hovered = over.line ? { box: -1, line: lineKey(over.line) } : { box: over.box >= 0 && !stage?.isOpen(over.box) ? over.box : -1, line: "" };
    const isHovering = hovered.box >= 0 || hovered.line !== "";
    const isChosen = chosen.box >= 0 || chosen.line !== "";
    const focus = isHovering ? hovered : isChosen ? chosen : { box: at, line: "" };
    stage?.focus({ ...focus, isOfChanges: isDraft });
    if (host.current) host.current.style.cursor = isHovering ? "pointer" : "";
  }, [stage, over, chosen, at, isDraft]);

  const { tree } = shown.ground;
  return (
    <div
      ref={host} className={css.canvas} role="application" tabIndex={0} data-painter={stage?.painter.kind}
      aria-label={`Map of ${plural(view.nodes.length, "group")} and ${plural(view.edges.length, "edge")}. Arrows go between groups, Enter opens one and lists its edges, plus and minus zoom, zero shows all. The Table tab has the same as text.`}
    >
      {error !== null && <ErrorBox error={error} />}
      <Tip under={over} tree={tree} view={view} isDraft={isDraft} />
      <div className="hidden" role="status">{at >= 0 && `${trail(tree, at).map(printable).join(", ")}: ${about(tree, at)}`}</div>
      <div className={css.zoom} role="group" aria-label="Zoom">
        <Button isTight icon="plus" aria-label="Zoom in" title="Zoom in (+)" onClick={() => stage?.zoom(1.4)} />
        <Button isTight icon="minus" aria-label="Zoom out" title="Zoom out (−)" onClick={() => stage?.zoom(1 / 1.4)} />
        <Button isTight icon="whole" aria-label="Show all" title="Show all (0)" onClick={() => stage?.fly(shown.ground.asked)} />
      </div>
      {stage && <Minimap stage={stage} shown={shown} />}
      {stage?.painter.kind === "flat" && <p className={css.flat}>This browser has no WebGL: the map is drawn without it, more slowly.</p>}
      {children}
    </div>
  );
}

/** What the pointer is over. */
function Tip({ under: { box, line, x, y }, tree, view, isDraft }: { under: Under; tree: Tree; view: MapView; isDraft: boolean }) {
  if (!line && (box < 0 || !tree.boxes[box])) return null;
  const words = (at: number): string => trail(tree, at).map(printable).join(" › ");
  const style = { left: x + 14, top: y + 16 };
  if (!line) return <div className={css.tip} style={style} aria-hidden="true"><b>{words(box)}</b><span>{about(tree, box)}</span></div>;
  const look = LOOKS[STATUSES[line.rank] ?? "allowed"];
  const services = line.services ?? [...new Set(line.edges.slice(0, 50).flatMap((edge) => view.edges[edge]?.services.map((use) => use.service) ?? []))];
  return (
    <div className={css.tip} style={style} aria-hidden="true">
      <b>{words(line.source)} → {words(line.destination)}</b>
      <span>{look.word}{isDraft && line.isChanged && ", changed by the draft"} · {plural(line.connections, "connection")}{line.edges.length > 1 && ` on ${count(line.edges.length)} edges`}</span>
      <span>{services.slice(0, 5).map((one) => <Badge key={one}>{printable(one)}</Badge>)}{services.length > 5 && ` and ${services.length - 5} more`}</span>
    </div>
  );
}
