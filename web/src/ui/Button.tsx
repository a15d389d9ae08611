import type { ButtonHTMLAttributes, ReactNode } from "react";
import css from "./Button.module.css";
import { type Over, useRefusal } from "../session/may";
import { Icon, type IconName } from "./Icon";
import { Why } from "./Why";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "plain" | "primary" | "danger" | "quiet";
  icon?: IconName;
  isTight?: boolean;
  isBusy?: boolean;
  /** The right it takes: without it the button is there, does nothing, and says why. */
  needs?: string | undefined;
  /** What it is needed over: who has it over something else is told so. */
  over?: Over | undefined;
  children?: ReactNode;
}

/** A button; without children it is square and must have an `aria-label`. */
export function Button({ look = "plain", icon, isTight = false, isBusy = false, needs, over, children, className = "", disabled, ...rest }: Props) {
  const why = useRefusal(needs, over);
  const looks = [css.button, look !== "plain" && css[look], isTight && css.tight, !children && css.square, isBusy && css.busy, why && css.refused, className];
  const shown = (
    <>
      {isBusy ? <span className={css.spin} aria-hidden="true" /> : icon && <Icon name={icon} size={isTight ? 14 : 16} />}
      {children}
    </>
  );
  const looked = looks.filter(Boolean).join(" ");
  if (!why) return <button type="button" className={looked} disabled={disabled || isBusy} aria-busy={isBusy || undefined} {...rest}>{shown}</button>;
  return <Why text={why}>{(id) => <button {...rest} type="button" className={looked} aria-disabled="true" aria-describedby={id} onClick={(event) => event.preventDefault()}>{shown}</button>}</Why>;
}
