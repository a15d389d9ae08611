// Connections over time by what becomes of them; a stretch is picked by dragging, by two sliders, or from the table.

import { type PointerEvent, useId, useMemo, useRef, useState } from "react";
import { Button } from "../../ui/Button";
import { brief, count, moment } from "../../words";
import type { Series } from "./asking";
import css from "./Timeline.module.css";
import { type Kind, KINDS, type Picture, pictureOf, type Span, spanOf, totalsOf } from "./series";

const WIDTH = 1000;
const HEIGHT = 150;
const WORDS: Record<Kind, string> = { allowed: "pass, and would", escaped: "pass now, would stop", opened: "blocked now, would pass", blocked: "blocked, and would be" };

interface Props {
  series: Series;
  bucketH: number;
  span: Span | null;
  onSpan: (span: Span | null) => void;
}

export function Timeline({ series, bucketH, span, onSpan }: Props) {
  const picture = useMemo(() => pictureOf(series, bucketH), [series, bucketH]);
  const totals = useMemo(() => totalsOf(series), [series]);
  const [isTable, setTable] = useState(false);
  const told = KINDS.filter((kind) => totals[kind] > 0).map((kind) => `${count(totals[kind])} ${WORDS[kind]}`).join(", ");
  return (
    <figure className={css.figure}>
      <div className={css.key}>
        {KINDS.filter((kind) => totals[kind] > 0).map((kind) => <span key={kind}><i className={css[kind]} /><b>{brief(totals[kind])}</b> {WORDS[kind]}</span>)}
        <Button isTight look="quiet" aria-pressed={isTable} onClick={() => setTable(!isTable)}>{isTable ? "As a picture" : "As a table"}</Button>
      </div>
      {isTable ? <Rows series={series} bucketH={bucketH} span={span} onSpan={onSpan} /> : <Bars picture={picture} bucketH={bucketH} span={span} onSpan={onSpan} label={`Connections over time: ${told || "none"}`} />}
    </figure>
  );
}

function Bars({ picture, bucketH, span, onSpan, label }: { picture: Picture; bucketH: number; span: Span | null; onSpan: (span: Span | null) => void; label: string }) {
  const id = useId();
  const [drag, setDrag] = useState<{ a: number; b: number } | null>(null);
  const plot = useRef<SVGSVGElement>(null);
  const shareOf = (event: PointerEvent): number => {
    const box = plot.current?.getBoundingClientRect();
    return box ? (event.clientX - box.left) / box.width : 0;
  };
  const whole = picture.last - picture.first || 1;
  const shown = drag ? [Math.min(drag.a, drag.b), Math.max(drag.a, drag.b)] : span ? [(span.since - picture.first) / whole, (span.until - picture.first) / whole] : null;
  const end = (): void => {
    if (drag) onSpan(spanOf(picture, drag.a, drag.b, bucketH));
    setDrag(null);
  };
  return (
    <>
      <div className={css.plot}>
        <span className={css.most}>{brief(picture.most)}</span>
        <svg
          ref={plot} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}
          onPointerDown={(event) => (event.currentTarget.setPointerCapture(event.pointerId), setDrag({ a: shareOf(event), b: shareOf(event) }))}
          onPointerMove={(event) => drag && setDrag({ ...drag, b: shareOf(event) })} onPointerUp={end} onPointerCancel={() => setDrag(null)}
        >
          <defs><pattern id={id} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(35)"><rect width="6" height="6" className={css.escapedBack} /><rect width="3.4" height="6" className={css.escapedLine} /></pattern></defs>
          {picture.bars.map((bar) => (
            <g key={bar.at}>
              {bar.pieces.map((piece) => (
                <rect
                  key={piece.kind} className={css[`fill-${piece.kind}`]} fill={piece.kind === "escaped" ? `url(#${id})` : undefined}
                  x={(bar.x + bar.width * 0.06) * WIDTH} width={Math.max(1, bar.width * 0.88 * WIDTH)} y={HEIGHT - (piece.y + piece.height) * HEIGHT} height={Math.max(1, piece.height * HEIGHT)}
                />
              ))}
            </g>
          ))}
          {shown?.[0] !== undefined && shown[1] !== undefined && (
            <>
              <rect className={css.veil} x={0} y={0} width={shown[0] * WIDTH} height={HEIGHT} />
              <rect className={css.veil} x={shown[1] * WIDTH} y={0} width={Math.max(0, 1 - shown[1]) * WIDTH} height={HEIGHT} />
            </>
          )}
        </svg>
        <p className={css.axis}><span>{moment(new Date(picture.first).toISOString()).slice(0, 16)}</span><span>{moment(new Date(picture.last).toISOString()).slice(0, 16)}</span></p>
      </div>
      <Sliders picture={picture} bucketH={bucketH} span={span} onSpan={onSpan} />
    </>
  );
}

/** The same brush for the keyboard: from and to, bar by bar. */
function Sliders({ picture, bucketH, span, onSpan }: { picture: Picture; bucketH: number; span: Span | null; onSpan: (span: Span | null) => void }) {
  const step = bucketH * 3_600_000;
  const most = Math.round((picture.last - picture.first) / step);
  if (most < 2) return null;
  const [from, to] = span ? [Math.round((span.since - picture.first) / step), Math.round((span.until - picture.first) / step)] : [0, most];
  const put = (a: number, b: number): void => onSpan(a <= 0 && b >= most ? null : { since: picture.first + a * step, until: picture.first + b * step });
  const words = (n: number): string => moment(new Date(picture.first + n * step).toISOString()).slice(0, 16);
  return (
    <div className={css.sliders}>
      <label><span>From</span><input type="range" min={0} max={most - 1} value={from} aria-valuetext={words(from)} onChange={(event) => put(Math.min(Number(event.target.value), to - 1), to)} /></label>
      <label><span>To</span><input type="range" min={1} max={most} value={to} aria-valuetext={words(to)} onChange={(event) => put(from, Math.max(Number(event.target.value), from + 1))} /></label>
    </div>
  );
}

function Rows({ series, bucketH, span, onSpan }: { series: Series; bucketH: number; span: Span | null; onSpan: (span: Span | null) => void }) {
  return (
    <div className={css.rows} role="region" aria-label="Connections over time" tabIndex={0}>
      <table>
        <thead><tr><th scope="col">From</th>{KINDS.map((kind) => <th key={kind} scope="col" className="number">{WORDS[kind]}</th>)}<th scope="col"><span className="hidden">Look at</span></th></tr></thead>
        <tbody>
          {series.start.map((start, index) => {
            const since = Date.parse(start);
            return (
              <tr key={start} aria-selected={span !== null && span.since <= since && since < span.until}>
                <th scope="row">{moment(start).slice(0, 16)}</th>
                {KINDS.map((kind) => <td key={kind} className="number">{count(series[kind][index] ?? 0)}</td>)}
                <td><Button isTight look="quiet" aria-label={`Only from ${moment(start).slice(0, 16)}`} onClick={() => onSpan({ since, until: since + bucketH * 3_600_000 })}>only this</Button></td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
