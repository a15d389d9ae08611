// What pages are made of: cards, numbers, facts, shares, states of having nothing, errors.

import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { asApiError } from "../api/errors";
import { printable } from "../words";
import type { Tone } from "./Badge";
import css from "./Box.module.css";
import { Button } from "./Button";
import { Icon, type IconName } from "./Icon";

export function Card({ title, tools, isFlush = false, children }: { title?: ReactNode; tools?: ReactNode; isFlush?: boolean; children: ReactNode }) {
  return (
    <section className={css.card}>
      {title && <header className={css.head}><h2>{title}</h2>{tools}</header>}
      <div className={isFlush ? css.flush : css.body}>{children}</div>
    </section>
  );
}

/** One number that says what it counts; a link where there is more to see. */
export function Stat({ name, value, of, hint, tone, to }: { name: string; value: ReactNode; of?: ReactNode; hint?: ReactNode; tone?: "good" | "warning" | "bad"; to?: string }) {
  const inner = (
    <>
      <span>{name}</span>
      <b>{value}{of !== undefined && <small> / {of}</small>}</b>
      {hint && <small>{hint}</small>}
    </>
  );
  const look = `${css.stat} ${tone ? css[tone] : ""}`;
  return to ? <Link to={to} className={look}>{inner}</Link> : <div className={look}>{inner}</div>;
}

/** Nothing to show: what this page is for, and how to get there. */
export function Empty({ icon, title, children, actions }: { icon: IconName; title: string; children?: ReactNode; actions?: ReactNode }) {
  return (
    <div className={css.empty}>
      <i><Icon name={icon} size={22} /></i>
      <h2>{title}</h2>
      {children}
      {actions && <div>{actions}</div>}
    </div>
  );
}

export const Steps = ({ children }: { children: ReactNode }) => <div className={css.steps}>{children}</div>;

/** An error as the API tells it: message, next step, code, findings. */
export function ErrorBox({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const told = asApiError(error);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => void box.current?.scrollIntoView({ block: "nearest" }), [error]);
  return (
    <div ref={box} className={css.error} role="alert">
      <Icon name="stop" size={18} />
      <div>
        <p><b>{printable(told.message)}</b></p>
        {told.help && <p>{printable(told.help)}</p>}
      </div>
      {onRetry ? <Button isTight onClick={onRetry}>Try again</Button> : <span />}
      <span className={css.code}>{told.code}</span>
      {told.findings.length > 0 && (
        <ul>
          {told.findings.map((one, index) => (
            <li key={index}>{printable(one.message)} <code className="soft">{one.code}</code></li>
          ))}
        </ul>
      )}
    </div>
  );
}

export const Note = ({ children }: { children: ReactNode }) => <div className={css.note}><Icon name="info" size={18} /><div>{children}</div></div>;

/** Lines to be typed somewhere else. */
export function Code({ text }: { text: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = (): void => void navigator.clipboard.writeText(text).then(() => setCopied(true));
  return (
    <div className={css.block}>
      <pre tabIndex={0}><code>{text}</code></pre>
      <Button look="quiet" isTight icon={isCopied ? "check" : "copy"} aria-label={isCopied ? "Copied" : "Copy"} title="Copy" onClick={copy} />
    </div>
  );
}

export interface Share {
  name: string;
  value: number;
  tone: Tone;
}

/** How a whole is divided; the numbers are said beside it by whoever uses it. */
export function ShareBar({ shares, label }: { shares: readonly Share[]; label: string }) {
  const told = shares.map((one) => `${one.value} ${one.name}`).join(", ");
  return (
    <div className={css.bar} role="img" aria-label={`${label}: ${told || "nothing"}`}>
      {shares.filter((one) => one.value > 0).map((one) => (
        <i key={one.name} className={css[`bar-${one.tone}`]} style={{ flexGrow: one.value }} title={`${one.value} ${one.name}`} />
      ))}
    </div>
  );
}

export function Progress({ value, of, label }: { value: number; of: number; label: string }) {
  return (
    <div className={css.bar} role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={of} aria-valuenow={value}>
      {value > 0 && <i className={css["bar-accent"]} style={{ flexGrow: value }} />}{value < of && <i style={{ flexGrow: of - value }} />}
    </div>
  );
}

export const Facts = ({ children }: { children: ReactNode }) => <dl className={css.facts}>{children}</dl>;

export const Fact = ({ name, children }: { name: string; children: ReactNode }) => <><dt>{name}</dt><dd>{children}</dd></>;

export interface Tab {
  id: string;
  name: string;
  count?: number;
}

/** One of a few views; arrows go from one to the next. The panel it shows is `panel`. */
export function Tabs({ tabs, chosen, onChoose, label, panel }: { tabs: readonly Tab[]; chosen: string; onChoose: (id: string) => void; label: string; panel: string }) {
  const move = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    const at = tabs.findIndex((tab) => tab.id === (event.target as HTMLElement).dataset.tab);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    if (!next) return;
    event.preventDefault();
    onChoose(next.id);
    (event.currentTarget.querySelector(`[data-tab="${next.id}"]`) as HTMLElement | null)?.focus();
  };
  return (
    <div className={css.tabs} role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map((tab) => (
        <button key={tab.id} type="button" role="tab" data-tab={tab.id} aria-selected={tab.id === chosen} aria-controls={panel} tabIndex={tab.id === chosen ? 0 : -1} onClick={() => onChoose(tab.id)}>
          {tab.name}{tab.count !== undefined && <small>{tab.count}</small>}
        </button>
      ))}
    </div>
  );
}

/** One of a few values, all of them in sight. */
export function Choice<T extends string>({ values, chosen, onChoose, label }: { values: readonly { id: T; name: string; title?: string; isOff?: boolean }[]; chosen: T; onChoose: (id: T) => void; label: string }) {
  return (
    <div className={css.tabs} role="group" aria-label={label}>
      {values.map((one) => (
        <button key={one.id} type="button" aria-pressed={one.id === chosen} title={one.title} disabled={one.isOff} onClick={() => onChoose(one.id)}>{one.name}</button>
      ))}
    </div>
  );
}

/** Lines that come and lines that go. */
export function Diff({ lines }: { lines: readonly { change: "added" | "removed" | "same"; text: string }[] }) {
  return (
    <div className={css.diff} role="group" aria-label="Changes" tabIndex={0}>
      {lines.map((line, index) => (
        <span key={index} className={line.change === "same" ? undefined : css[line.change]}>
          {line.change !== "same" && <span className="hidden">{line.change}: </span>}{line.text}
        </span>
      ))}
    </div>
  );
}

export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div className={css.loading} role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => <i key={index} style={{ width: `${88 - ((index * 37) % 52)}%` }} />)}
    </div>
  );
}
