// The same drawing without WebGL: slower, nothing less.

import type { Camera } from "./camera";
import { BOX, CARD, type Drawing, LINE, type Painter, type Palette, through } from "./drawing";
import { LOOKS, rankOf, STATUSES } from "./verdicts";

const [BLOCKED, ALLOWED] = [rankOf("blocked"), rankOf("allowed")];
/** After the statuses, in the order of `PARTS`. */
const [PART_CARD, PART_LINE, PART_STRONG, PART_ACCENT] = [0, 1, 2, 3].map((at) => STATUSES.length + at) as [number, number, number, number];

export function flatPainter(canvas: HTMLCanvasElement): Painter {
  const context = canvas.getContext("2d");
  let drawing: Drawing | null = null;
  let palette: readonly string[] = [];

  const boxes = (values: Float32Array, camera: Camera): void => {
    if (!context) return;
    for (let at = 0; at < values.length; at += BOX) {
      const v = values.subarray(at, at + BOX);
      const [x, y, w, h] = [(v[0] ?? 0) * camera.scale + camera.x, (v[1] ?? 0) * camera.scale + camera.y, (v[2] ?? 0) * camera.scale, (v[3] ?? 0) * camera.scale];
      const isCard = v[4] === CARD;
      context.globalAlpha = v[6] ?? 1;
      context.beginPath();
      context.roundRect(x, y, w, h, Math.min(isCard ? 8 : 11, h / 4));
      context.fillStyle = palette[PART_CARD] ?? "";
      if (!isCard) context.globalAlpha *= 0.5;
      context.fill();
      context.globalAlpha = v[6] ?? 1;
      context.lineWidth = v[7] ? 2.4 : 1;
      context.strokeStyle = palette[v[7] ? PART_ACCENT : isCard ? PART_STRONG : PART_LINE] ?? "";
      context.stroke();
      if (isCard && (v[5] ?? -1) >= 0) {
        context.fillStyle = palette[v[5] ?? 0] ?? "";
        context.fillRect(x, y + 4, Math.min(4, w * 0.06), h - 8);
      }
    }
  };
  const lines = (values: Float32Array, camera: Camera): void => {
    if (!context) return;
    const at = (n: number, axis: number): number => n * camera.scale + (axis ? camera.y : camera.x);
    for (let i = 0; i < values.length; i += LINE) {
      const v = values.subarray(i, i + LINE);
      const rank = v[8] ?? ALLOWED;
      context.globalAlpha = v[10] ?? 1;
      context.strokeStyle = context.fillStyle = palette[rank] ?? "";
      context.lineWidth = (v[9] ?? 1) + (v[11] ? 1.5 : 0);
      context.setLineDash([...(LOOKS[STATUSES[rank] ?? "allowed"].dash)]);
      context.beginPath();
      context.moveTo(at(v[0] ?? 0, 0), at(v[1] ?? 0, 1));
      context.quadraticCurveTo(at(v[4] ?? 0, 0), at(v[5] ?? 0, 1), at(v[2] ?? 0, 0), at(v[3] ?? 0, 1));
      context.stroke();
      context.setLineDash([]);
      end(at(v[2] ?? 0, 0), at(v[3] ?? 0, 1), Math.atan2((v[3] ?? 0) - (v[5] ?? 0), (v[2] ?? 0) - (v[4] ?? 0)), 6 + (v[9] ?? 1), rank === BLOCKED);
    }
  };
  const end = (x: number, y: number, angle: number, size: number, isBar: boolean): void => {
    if (!context) return;
    context.save();
    context.translate(x, y);
    context.rotate(angle);
    context.beginPath();
    if (isBar) context.rect(-2.5, -size * 0.6, 2.5, size * 1.2);
    else for (const [dx, dy] of [[0, 0], [-size, -size * 0.55], [-size, size * 0.55]] as const) context.lineTo(dx, dy);
    context.fill();
    context.restore();
  };

  return {
    kind: "flat",
    put: (next) => void (drawing = next),
    colour: (next: Palette) => void (palette = next.map(([r, g, b, a]) => `rgb(${r * 255} ${g * 255} ${b * 255} / ${a})`)),
    paint(camera, width, height) {
      if (!context || !drawing) return;
      const [wide, high] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
      if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
      context.clearRect(0, 0, width, height);
      boxes(drawing.frames, camera);
      lines(drawing.lines, camera);
      boxes(drawing.cards, camera);
      lines(through(drawing), camera);
      context.globalAlpha = 1;
    },
    close: () => undefined,
  };
}
