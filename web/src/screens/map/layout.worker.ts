// The layout, beside the page: a large estate never holds up a click.

import { layout, type Plan } from "./layout";

addEventListener("message", ({ data }: MessageEvent<{ id: number; plan: Plan }>) => {
  const rects = layout(data.plan);
  postMessage({ id: data.id, rects }, { transfer: [rects.buffer] });
});
