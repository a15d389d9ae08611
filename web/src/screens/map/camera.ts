// What part of the world is in sight. Screen = world x scale + offset, in CSS pixels.

export interface Camera {
  scale: number;
  x: number;
  y: number;
}

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export const LEAST = 0.01;
export const MOST = 20;
const within = (scale: number): number => Math.min(MOST, Math.max(LEAST, scale));

/** What lies over the edges of the map. */
const INSET = { top: 58, right: 56, bottom: 60, left: 26 };

export function fit(rect: Rect, width: number, height: number, most = 1.15): Camera {
  const [wide, high] = [Math.max(40, width - INSET.left - INSET.right), Math.max(40, height - INSET.top - INSET.bottom)];
  const scale = Math.min(most, within(Math.min(wide / Math.max(1, rect.width), high / Math.max(1, rect.height))));
  return { scale, x: INSET.left + wide / 2 - (rect.x + rect.width / 2) * scale, y: INSET.top + high / 2 - (rect.y + rect.height / 2) * scale };
}

/** Nearer or farther, with the point under the pointer staying there. */
export function zoomed(camera: Camera, factor: number, x: number, y: number): Camera {
  const scale = within(camera.scale * factor);
  const by = scale / camera.scale;
  return { scale, x: x - (x - camera.x) * by, y: y - (y - camera.y) * by };
}

export const mixed = (a: Camera, b: Camera, t: number): Camera => {
  const scale = a.scale * (b.scale / a.scale) ** t;
  const share = a.scale === b.scale ? t : (scale - a.scale) / (b.scale - a.scale);
  return { scale, x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share };
};

export function around(rects: Float32Array, boxes: Iterable<number>): Rect | null {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const box of boxes) {
    const [x, y, w, h] = [rects[box * 4] ?? 0, rects[box * 4 + 1] ?? 0, rects[box * 4 + 2] ?? 0, rects[box * 4 + 3] ?? 0];
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + w), Math.max(bottom, y + h)];
  }
  return right < left ? null : { x: left, y: top, width: right - left, height: bottom - top };
}
