import type { ButtonHTMLAttributes, ReactNode } from "react";
import css from "./Button.module.css";
import { Icon, type IconName } from "./Icon";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "plain" | "primary" | "danger" | "quiet";
  icon?: IconName;
  isTight?: boolean;
  isBusy?: boolean;
  children?: ReactNode;
}

/** A button; without children it is square and must have an `aria-label`. */
export function Button({ look = "plain", icon, isTight = false, isBusy = false, children, className = "", disabled, ...rest }: Props) {
  const looks = [css.button, look !== "plain" && css[look], isTight && css.tight, !children && css.square, isBusy && css.busy, className];
  return (
    <button type="button" className={looks.filter(Boolean).join(" ")} disabled={disabled || isBusy} aria-busy={isBusy || undefined} {...rest}>
      {isBusy ? <span className={css.spin} aria-hidden="true" /> : icon && <Icon name={icon} size={isTight ? 14 : 16} />}
      {children}
    </button>
  );
}
