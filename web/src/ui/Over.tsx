// What lies over or beside a page: dialogs (modal), drawers (not), toasts.

import { type ReactNode, useEffect, useId, useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import { printable } from "../words";
import { Button } from "./Button";
import { Icon } from "./Icon";
import css from "./Over.module.css";

interface Over {
  title: ReactNode;
  about?: ReactNode;
  foot?: ReactNode;
  onClose: () => void;
  children: ReactNode;
}

/** What a dialog begins with. */
const FIRST_FIELD = `.${css.body} :is(input:not([type=radio], [type=file]), input:checked, select, textarea):not(:disabled)`;

/** Modal: the browser keeps the focus in it, and gives it back while the dialog is still in the page. It begins at the
 *  first field, or at its title. Escape closes it, and nothing under it. */
export function Dialog({ title, about, foot, onClose, isWide = false, children }: Over & { isWide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    const one = dialog.current;
    one?.showModal();
    (one?.querySelector<HTMLElement>(FIRST_FIELD) ?? heading.current)?.focus();
    return () => one?.close();
  }, []);
  return (
    <dialog
      ref={dialog} className={`${css.dialog} ${isWide ? css.wide : ""}`} aria-labelledby={id} aria-describedby={about ? `${id}-about` : undefined}
      onCancel={(event) => (event.preventDefault(), onClose())} onKeyDown={(event) => event.key === "Escape" && event.stopPropagation()} onMouseDown={(event) => event.target === dialog.current && onClose()}
    >
      <header className={css.head}>
        <div><h2 ref={heading} id={id} tabIndex={-1}>{title}</h2>{about && <p id={`${id}-about`}>{about}</p>}</div>
        <Button look="quiet" icon="close" aria-label="Close" onClick={onClose} />
      </header>
      <div className={css.body}>{children}</div>
      {foot && <footer className={css.foot}>{foot}</footer>}
    </dialog>
  );
}

/** Details beside a list. It takes the focus when it opens and gives it back when it closes. */
export function Drawer({ title, about, foot, onClose, children }: Over) {
  const drawer = useRef<HTMLElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    drawer.current?.focus({ preventScroll: true });
    return () => before instanceof HTMLElement && before.isConnected ? before.focus({ preventScroll: true }) : undefined;
  }, []);
  return (
    <aside ref={drawer} className={css.drawer} role="region" aria-labelledby={id} tabIndex={-1} onKeyDown={(event) => event.key === "Escape" && !event.defaultPrevented && onClose()}>
      <header className={css.head}>
        <div><h2 id={id}>{title}</h2>{about}</div>
        <Button look="quiet" icon="close" aria-label="Close details" onClick={onClose} />
      </header>
      <div className={css.body}>{children}</div>
      {foot && <footer className={css.foot}>{foot}</footer>}
    </aside>
  );
}

export const Section = ({ title, tools, children }: { title: string; tools?: ReactNode; children: ReactNode }) => (
  <section className={css.section}><h3>{title}{tools}</h3>{children}</section>
);

// ---- toasts --------------------------------------------------------------------------------------------------------

const LASTS_MS = 8000;
let toasts: readonly { id: number; text: string }[] = [];
let last = 0;
const watchers = new Set<() => void>();

function become(next: typeof toasts): void {
  toasts = next;
  for (const watcher of watchers) watcher();
}

const forget = (id: number): void => become(toasts.filter((one) => one.id !== id));

/** Say that something was done. Errors are not toasts: they stand where they happened. */
export const say = (text: string): void => become([...toasts.slice(-3), { id: ++last, text }]);

export function Toasts() {
  const shown = useSyncExternalStore((watcher) => (watchers.add(watcher), () => watchers.delete(watcher)), () => toasts);
  return (
    <div className={css.toasts} role="status" aria-live="polite">
      {shown.map((toast) => <Toast key={toast.id} text={toast.text} onEnd={() => forget(toast.id)} />)}
    </div>
  );
}

/** It stays for as long as somebody is at it, by mouse or by keyboard. */
function Toast({ text, onEnd }: { text: string; onEnd: () => void }) {
  const [isHeld, hold] = useState(false);
  const end = useRef(onEnd);
  end.current = onEnd;
  useEffect(() => {
    if (isHeld) return;
    const timer = setTimeout(() => end.current(), LASTS_MS);
    return () => clearTimeout(timer);
  }, [isHeld]);
  return (
    <div className={css.toast} onMouseEnter={() => hold(true)} onMouseLeave={() => hold(false)} onFocus={() => hold(true)} onBlur={() => hold(false)}>
      <Icon name="check" size={18} />{printable(text)}
      <Button look="quiet" isTight icon="close" aria-label={`Dismiss: ${printable(text)}`} onClick={onEnd} />
    </div>
  );
}
