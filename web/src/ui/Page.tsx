// How a screen is laid out: a title with its tools, the body, details beside it.

import type { ReactNode } from "react";
import css from "./Page.module.css";

export function Page({ title, about, tools, side, isSheet = false, children }: { title: string; about?: ReactNode; tools?: ReactNode; side?: ReactNode; isSheet?: boolean; children: ReactNode }) {
  return (
    <div className={css.page}>
      <header className={css.head}><div><h1>{title}</h1><span className="soft" role="status">{about}</span></div>{tools}</header>
      <div className={`${css.body} ${isSheet ? css.fixed : ""}`}>{isSheet ? <div className={css.sheet}>{children}</div> : children}</div>
      {side && <div className={css.side}>{side}</div>}
    </div>
  );
}

/** What can be done with the rows that are ticked. */
export const PickedBar = ({ children }: { children: ReactNode }) => <div className={css.bar} role="toolbar" aria-label="Ticked rows">{children}</div>;
