// What lies over or beside a page: dialogs (modal), drawers (not), toasts.

import { type ReactNode, useEffect, useId, useRef, useSyncExternalStore } from "react";
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

/** Modal: the browser keeps the focus in it, Escape closes it. */
export function Dialog({ title, about, foot, onClose, isWide = false, children }: Over & { isWide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const one = dialog.current;
    one?.showModal();
    return () => one?.close();
  }, []);
  return (
    <dialog
      ref={dialog} className={`${css.dialog} ${isWide ? css.wide : ""}`} aria-labelledby={id}
      onCancel={(event) => (event.preventDefault(), onClose())} onMouseDown={(event) => event.target === dialog.current && onClose()}
    >
      <header className={css.head}>
        <div><h2 id={id}>{title}</h2>{about && <p>{about}</p>}</div>
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
  useEffect(() => {
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

const LASTS_MS = 6000;
let toasts: readonly { id: number; text: string }[] = [];
let last = 0;
const watchers = new Set<() => void>();

function become(next: typeof toasts): void {
  toasts = next;
  for (const watcher of watchers) watcher();
}

const forget = (id: number): void => become(toasts.filter((one) => one.id !== id));

/** Say that something was done. Errors are not toasts: they stand where they happened. */
export function say(text: string): void {
  const id = ++last;
  become([...toasts.slice(-3), { id, text }]);
  setTimeout(() => forget(id), LASTS_MS);
}

export function Toasts() {
  const shown = useSyncExternalStore((watcher) => (watchers.add(watcher), () => watchers.delete(watcher)), () => toasts);
  return (
    <div className={css.toasts} role="status" aria-live="polite">
      {shown.map((toast) => (
        <div key={toast.id} className={css.toast}>
          <Icon name="check" size={18} />{printable(toast.text)}
          <Button look="quiet" isTight icon="close" aria-label="Dismiss" onClick={() => forget(toast.id)} />
        </div>
      ))}
    </div>
  );
}
