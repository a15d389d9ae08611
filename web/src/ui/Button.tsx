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

/** A button; without children it is square and must have an `aria-label`. One that does nothing now keeps the focus it has. */
export function Button({ look = "plain", icon, isTight = false, isBusy = false, needs, over, children, className = "", disabled, onClick, ...rest }: Props) {
  const why = useRefusal(needs, over);
  const isOff = disabled || isBusy || why !== "";
  const looks = [css.button, look !== "plain" && css[look], isTight && css.tight, !children && css.square, isBusy && css.busy, className].filter(Boolean).join(" ");
  const button = (id?: string) => (
    <button type="button" {...rest} className={looks} aria-disabled={isOff || undefined} aria-busy={isBusy || undefined} aria-describedby={id} onClick={isOff ? (event) => event.preventDefault() : onClick}>
      {isBusy ? <span className={css.spin} aria-hidden="true" /> : icon && <Icon name={icon} size={isTight ? 14 : 16} />}
      {children}
    </button>
  );
  return why ? <Why text={why}>{button}</Why> : button();
}
