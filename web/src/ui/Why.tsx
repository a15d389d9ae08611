// Why a control does nothing, beside it: over whatever holds it, for the mouse, the keyboard and screen readers.

import { type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import css from "./Button.module.css";

const GAP = 6;

/** `children` gets the id to be described by. */
export function Why({ text, children }: { text: string; children: (id: string) => ReactNode }) {
  const id = useId();
  const [isShown, setShown] = useState(false);
  const around = useRef<HTMLSpanElement>(null);
  const tip = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    const [at, box] = [around.current?.getBoundingClientRect(), tip.current];
    if (!isShown || !at || !box) return;
    box.showPopover();
    const size = box.getBoundingClientRect();
    const below = at.bottom + GAP + size.height < innerHeight;
    box.style.top = `${below ? at.bottom + GAP : at.top - GAP - size.height}px`;
    box.style.left = `${Math.max(GAP, Math.min(at.left + at.width / 2 - size.width / 2, innerWidth - size.width - GAP))}px`;
    return () => box.hidePopover();
  }, [isShown]);
  const show = (): void => setShown(true);
  const hide = (): void => setShown(false);
  return (
    <span ref={around} className={css.around} onMouseEnter={show} onMouseLeave={hide} onFocus={show} onBlur={hide} onKeyDown={(event) => event.key === "Escape" && hide()}>
      {children(id)}
      <span ref={tip} id={id} role="tooltip" popover="manual" className={css.why}>{text}</span>
    </span>
  );
}
