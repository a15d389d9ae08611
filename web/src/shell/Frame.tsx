// The frame around every screen: where one is, what is asked, whether it is live.

import { Suspense, useCallback, useEffect, useRef, useState } from "react";
import { Link, NavLink, Outlet, useLocation } from "react-router";
import { keepLive, useLink, useLive } from "../api/live";
import { refresh, useStatus } from "../api/queries";
import type { LiveEvent } from "../api/types";
import { type Screen, SCREENS } from "../screens";
import { useRefusal } from "../session/may";
import { useSession } from "../session/session";
import { Loading } from "../ui/Box";
import { useFocusKept } from "../ui/focus";
import { Icon } from "../ui/Icon";
import { Toasts } from "../ui/Over";
import { Why } from "../ui/Why";
import { plural, printable } from "../words";
import css from "./Frame.module.css";
import { Keys, MAIN_ID, useKeys } from "./Keys";
import { Mark } from "./Mark";
import { useKeeping } from "./query";
import { QueryBox } from "./QueryBox";
import { RangeBox, SelfMenu } from "./TopBar";

export function Frame() {
  const [isHelpOpen, setHelpOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  useKeys(useCallback(() => setHelpOpen(true), []));
  useEverythingLive();
  useFocusKept(main);
  const { pathname } = useLocation();
  const screen = SCREENS.find((one) => one.path === pathname);
  const shown = useRef(pathname);
  useEffect(() => void (document.title = screen ? `${screen.name} · Ringfence` : "Ringfence"), [screen]);
  useEffect(() => {
    if (shown.current !== pathname && !main.current?.contains(document.activeElement)) main.current?.focus();
    shown.current = pathname;
  }, [pathname]);
  return (
    <div className={css.frame}>
      <a className={css.skip} href={`#${MAIN_ID}`} onClick={(event) => (event.preventDefault(), main.current?.focus())}>Skip to the page</a>
      <Link to="/" className={css.brand} aria-label="Ringfence: home"><Mark /><span>Ringfence</span></Link>
      <Navigation />
      <header className={css.top}>
        <Estate />
        <QueryBox />
        <div className={css.tools}>
          <RangeBox />
          <SelfMenu onKeys={() => setHelpOpen(true)} />
        </div>
      </header>
      <main ref={main} id={MAIN_ID} className={css.main} tabIndex={-1} aria-label={screen?.name}>
        <div className={css.whole}>
          <Lost />
          <Suspense fallback={<Loading />}><Outlet /></Suspense>
        </div>
      </main>
      {isHelpOpen && <Keys onClose={() => setHelpOpen(false)} />}
      <Toasts />
    </div>
  );
}

/** The stream of events is followed, and what it tells makes the lists look again. */
function useEverythingLive(): void {
  useEffect(() => {
    const stop = new AbortController();
    void keepLive(stop.signal, () => void refresh("alerts", "status", "workloads", "quarantines"));
    return () => stop.abort();
  }, []);
  const waiting = useRef<ReturnType<typeof setTimeout> | null>(null);
  useLive(
    useCallback((event: LiveEvent) => {
      if ((event.kind !== "alert" && event.lost === 0) || waiting.current !== null) return;
      waiting.current = setTimeout(() => {
        waiting.current = null;
        void refresh("alerts", "status");
      }, 300);
    }, []),
  );
}

function Navigation() {
  const keeping = useKeeping();
  const { me } = useSession();
  const status = useStatus().data;
  const open = Object.entries(status?.alerts ?? {}).reduce((sum, [severity, n]) => sum + (severity === "info" ? 0 : n), 0);
  return (
    <nav className={css.side} aria-label="Screens">
      <ul>
        {SCREENS.map((screen) => me?.rights.includes(screen.right) ? (
          <li key={screen.path}>
            <NavLink to={keeping(screen.path)} end={screen.path === "/"} title={`${screen.name} (g ${screen.key})`}>
              <Icon name={screen.icon} /><span>{screen.name}</span>
              {screen.path === "/alerts" && open > 0 && <b aria-label={`${open} open`}>{open > 999 ? "999+" : open}</b>}
            </NavLink>
          </li>
        ) : <Shut key={screen.path} screen={screen} />)}
      </ul>
      <p className="hidden" role="status">{open > 0 && plural(open, "open alert")}</p>
      {status && <footer><span>Policy version {status.policy_version || "–"}</span><span>Ringfence {status.version}</span></footer>}
    </nav>
  );
}

/** A screen that takes a right one does not have: it is there, and says so. */
function Shut({ screen }: { screen: Screen }) {
  const why = useRefusal(screen.right);
  return (
    <li>
      <Why text={why}>{(id) => <a role="link" aria-disabled="true" aria-describedby={id} tabIndex={0}><Icon name={screen.icon} /><span>{screen.name}</span><i><Icon name="lock" size={13} /></i></a>}</Why>
    </li>
  );
}

/** The estate's name, and one dot for all: live, something degraded, or lost. */
function Estate() {
  const link = useLink();
  const status = useStatus().data;
  const worst = status?.parts.filter((part) => part.state !== "ok") ?? [];
  const state = link === "live" && worst.length > 0 ? "degraded" : link;
  const told = { live: "Live: every part of the controller is well", connecting: "Connecting", lost: "No connection", degraded: worst.map((part) => `${part.name}: ${part.message || part.state}`).join("; ") }[state];
  return (
    <div className={css.estate} title={told}>
      <span className={css.dot} data-state={state} role="img" aria-label={told} />
      <span>{printable(status?.name ?? "…")}</span>
    </div>
  );
}

function Lost() {
  if (useLink() !== "lost") return null;
  return <div className={css.lost} role="status"><Icon name="warn" />No connection to the controller: what you see may be old. Trying again.</div>;
}
