// The top bar's parts: the time, oneself.

import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { useSignOut } from "../screens/session/SignOut";
import { useSession } from "../session/session";
import { Badge } from "../ui/Badge";
import { Choice } from "../ui/Box";
import { Button } from "../ui/Button";
import { Select } from "../ui/Field";
import { Icon } from "../ui/Icon";
import { printable } from "../words";
import css from "./Frame.module.css";
import { RANGES, type Range, useEstateQuery } from "./query";
import { show, type Theme, useTheme } from "./theme";

export function RangeBox() {
  const { range, ask } = useEstateQuery();
  return <div className={css.range}><Select name="Time range" isTight values={RANGES} value={range} onChange={(event) => ask({ range: event.target.value as Range })} /></div>;
}

const THEMES: readonly { id: Theme; name: string }[] = [{ id: "light", name: "Light" }, { id: "dark", name: "Dark" }, { id: "system", name: "System" }];

export function SelfMenu({ onKeys }: { onKeys: () => void }) {
  const { me } = useSession();
  const theme = useTheme();
  const [isOpen, setOpen] = useState(false);
  const [isLeaving, leave] = useSignOut();
  const menu = useRef<HTMLDivElement>(null);
  const close = (): void => (menu.current?.querySelector("button")?.focus(), setOpen(false));
  useEffect(() => {
    if (!isOpen) return;
    const away = (event: Event): void => void (menu.current?.contains(event.target as Node) || setOpen(false));
    addEventListener("pointerdown", away);
    addEventListener("focusin", away);
    return () => (removeEventListener("pointerdown", away), removeEventListener("focusin", away));
  }, [isOpen]);
  return (
    <div ref={menu} className={css.menu} onKeyDown={(event) => event.key === "Escape" && isOpen && close()}>
      <Button look="quiet" icon="person" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>{printable(me?.name ?? "…")}</Button>
      {isOpen && (
        <div>
          <header>
            <b>{printable(me?.name ?? "")}</b>
            <span>{me?.roles.map((role) => <Badge key={role}>{role}</Badge>)}</span>
            <span className="soft small">{me && me.powers.every((power) => power.scope) ? `Only ${printable(me.powers.map((power) => power.scope).join(" or "))}` : "The whole estate"}</span>
          </header>
          <div className={css.themes}><Choice label="Theme" values={THEMES} chosen={theme} onChoose={show} /></div>
          <Link to="/session" onClick={close}><Icon name="person" />Session</Link>
          <button type="button" onClick={() => (close(), onKeys())}><Icon name="keys" />Keys<kbd>?</kbd></button>
          <button type="button" onClick={() => (close(), leave())}><Icon name="out" />Log out</button>
        </div>
      )}
      {isLeaving}
    </div>
  );
}
