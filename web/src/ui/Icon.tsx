// Line icons on a 16 px grid, drawn by us: no icon font, no sprite to load.

const SHAPES = {
  home: "M2.5 7.2 8 2.5l5.5 4.7v6.3h-4V9.8h-3v3.7h-4z",
  map: "M4 5.5a1.7 1.7 0 1 0 0-3.4 1.7 1.7 0 0 0 0 3.4M12 8.2a1.7 1.7 0 1 0 0-3.4 1.7 1.7 0 0 0 0 3.4M5.2 14a1.7 1.7 0 1 0 0-3.4 1.7 1.7 0 0 0 0 3.4M5.6 4.4l4.8 1.5M10.7 7.7 6.4 11.1M4.2 5.5l.8 5.1",
  server: "M2.5 2.5h11v4.6h-11zM2.5 8.9h11v4.6h-11zM5 4.8h.01M5 11.2h.01M7.5 4.8h3.5M7.5 11.2h3.5",
  policy: "M4 1.8h5.6L12.5 5v9.2H4zM9.4 1.8V5h3.1M6.2 8h4M6.2 10.8h4",
  bulb: "M5.6 10.2a4.2 4.2 0 1 1 4.8 0v1.6H5.6zM6.2 14h3.6",
  reach: "M8 8m-1.6 0a1.6 1.6 0 1 0 3.2 0 1.6 1.6 0 1 0-3.2 0M8 8m-4 0a4 4 0 1 0 8 0 4 4 0 1 0-8 0M8 8m-6.3 0a6.3 6.3 0 1 0 12.6 0 6.3 6.3 0 1 0-12.6 0",
  bell: "M3.5 11.5h9l-1-1.8V7a3.5 3.5 0 0 0-7 0v2.7zM6.6 13.6a1.6 1.6 0 0 0 2.8 0M8 3.5V2",
  log: "M3 3h10M3 6.3h10M3 9.7h6.5M3 13h4M11 12.2l1.3 1.3 2.2-2.6",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9M10.4 10.4 14 14",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.6v1.2M8 13.2v1.2M1.6 8h1.2M13.2 8h1.2M3.5 3.5l.8.8M11.7 11.7l.8.8M12.5 3.5l-.8.8M4.3 11.7l-.8.8",
  moon: "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z",
  screen: "M2 3h12v8H2zM6 13.6h4M8 11v2.6",
  clock: "M8 14a6 6 0 1 0 0-12 6 6 0 0 0 0 12M8 4.8V8l2.2 1.5",
  person: "M8 8a2.6 2.6 0 1 0 0-5.2A2.6 2.6 0 0 0 8 8M2.9 13.6a5.1 5.1 0 0 1 10.2 0",
  out: "M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6",
  check: "M3.5 8.4 6.6 11.5l6-7",
  warn: "M8 2.2 14.2 13H1.8zM8 6.4v3.2M8 11.4h.01",
  stop: "M5.4 1.8h5.2l3.6 3.6v5.2l-3.6 3.6H5.4l-3.6-3.6V5.4zM5 8h6",
  info: "M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4M8 7.4v3.8M8 4.9h.01",
  shield: "M8 1.6 13 3.4v4c0 3.4-2.1 5.8-5 7-2.9-1.2-5-3.6-5-7v-4zM5.8 7.8l1.7 1.7 2.9-3.3",
  lock: "M3.5 7h9v7h-9zM5.3 7V4.9a2.7 2.7 0 0 1 5.4 0V7",
  tag: "M2 2.5h5.4L14 9.1 9.1 14 2 7.4zM5 5.5h.01",
  keys: "M1.5 4h13v8.5h-13zM4 6.7h.01M6.7 6.7h.01M9.4 6.7h.01M12 6.7h.01M5 9.8h6",
  undo: "M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H6",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  whole: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  pulse: "M1.5 8.5h3l2-5 3 9 2-4h3",
  save: "M8 2.5v7.6M4.8 7 8 10.2 11.2 7M2.5 13.5h11",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg viewBox="0 0 16 16" width={size} height={size} aria-hidden="true" focusable="false" fill="none" stroke="currentColor" strokeWidth={1.4} strokeLinecap="round" strokeLinejoin="round">
      <path d={SHAPES[name]} />
    </svg>
  );
}
