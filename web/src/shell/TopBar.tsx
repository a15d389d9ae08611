// The top bar's parts: the question, the time, oneself.

import { type FormEvent, useEffect, useRef, useState } from "react";
import { client } from "../api/queries";
import { end, useSession } from "../session/session";
import { Badge } from "../ui/Badge";
import { Choice } from "../ui/Box";
import { Button } from "../ui/Button";
import { Select } from "../ui/Field";
import { Icon } from "../ui/Icon";
import { printable } from "../words";
import css from "./Frame.module.css";
import { QUERY_ID } from "./Keys";
import { RANGES, type Range, useEstateQuery } from "./query";
import { show, type Theme, useTheme } from "./theme";

/** One label selector for every screen. */
export function QueryBox() {
  const { where, ask } = useEstateQuery();
  const [text, setText] = useState(where);
  useEffect(() => setText(where), [where]);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    ask({ where: text.trim() });
  };
  return (
    <form className={css.query} role="search" data-on={where !== ""} onSubmit={submit}>
      <Icon name="search" />
      <input
        id={QUERY_ID} aria-label="Label selector" placeholder="Labels: app=shop, env in (prod, stage)" value={text} autoComplete="off" spellCheck={false}
        onChange={(event) => setText(event.target.value)} onBlur={() => text.trim() !== where && ask({ where: text.trim() })}
        onKeyDown={(event) => event.key === "Escape" && (setText(where), event.currentTarget.blur())}
      />
      {where ? <Button look="quiet" isTight icon="close" aria-label="Ask about everything" onClick={() => ask({ where: "" })} /> : <kbd aria-hidden="true">/</kbd>}
    </form>
  );
}

export function RangeBox() {
  const { range, ask } = useEstateQuery();
  return <div className={css.range}><Select name="Time range" isTight values={RANGES} value={range} onChange={(event) => ask({ range: event.target.value as Range })} /></div>;
}

const THEMES: readonly { id: Theme; name: string }[] = [{ id: "light", name: "Light" }, { id: "dark", name: "Dark" }, { id: "system", name: "System" }];

export function SelfMenu({ onKeys }: { onKeys: () => void }) {
  const { me } = useSession();
  const theme = useTheme();
  const [isOpen, setOpen] = useState(false);
  const menu = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    const away = (event: Event): void => void (menu.current?.contains(event.target as Node) || setOpen(false));
    addEventListener("pointerdown", away);
    addEventListener("focusin", away);
    return () => (removeEventListener("pointerdown", away), removeEventListener("focusin", away));
  }, [isOpen]);
  return (
    <div ref={menu} className={css.menu} onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <Button look="quiet" icon="person" aria-expanded={isOpen} aria-haspopup="true" onClick={() => setOpen(!isOpen)}>{printable(me?.name ?? "…")}</Button>
      {isOpen && (
        <div>
          <header>
            <b>{printable(me?.name ?? "")}</b>
            <span>{me?.roles.map((role) => <Badge key={role}>{role}</Badge>)}</span>
            <span className="soft small">{me?.scope ? `Only ${printable(me.scope)}` : "The whole estate"}</span>
          </header>
          <div className={css.themes}><Choice label="Theme" values={THEMES} chosen={theme} onChoose={show} /></div>
          <button type="button" onClick={() => (setOpen(false), onKeys())}><Icon name="keys" />Keys<kbd>?</kbd></button>
          <button type="button" onClick={() => (client.clear(), end())}><Icon name="out" />Log out</button>
        </div>
      )}
    </div>
  );
}
