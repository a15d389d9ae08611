// What lines mean, how many there are, and the switch of what is shown: a legend that is also the filter.

import type { CSSProperties } from "react";
import { count } from "../../words";
import type { MapView } from "./asking";
import css from "./Map.module.css";
import { LOOKS, STATUSES, type Status } from "./verdicts";

export function Line({ status }: { status: Status }) {
  const look = LOOKS[status];
  return (
    <svg width="30" height="10" viewBox="0 0 30 10" aria-hidden="true" style={{ "--own": `var(${look.colour})` } as CSSProperties} className={css.line}>
      {look.isHatched ? <path d="M1 8l4-6M6 8l4-6M11 8l4-6M16 8l4-6" /> : <path d="M1 5H23" strokeDasharray={look.dash.join(" ") || undefined} />}
      {status === "blocked" ? <path d="M26 0V10" /> : <path d="M23 1.5 29 5l-6 3.5z" className={css.arrow} />}
    </svg>
  );
}

export function Legend({ statuses, chosen, onChoose }: { statuses: Partial<MapView["statuses"]>; chosen: string; onChoose: (status: Status | "") => void }) {
  return (
    <div className={css.legend} role="group" aria-label="Edges by verdict">
      {STATUSES.map((status) => (
        <button key={status} type="button" aria-pressed={chosen === status} title={LOOKS[status].help} disabled={!statuses[status] && chosen !== status} onClick={() => onChoose(chosen === status ? "" : status)}>
          <Line status={status} /><span>{LOOKS[status].word}</span><b>{count(statuses[status] ?? 0)}</b>
        </button>
      ))}
    </div>
  );
}
