// Who is not logged in sees the login, at whatever address; who is sees the screen of the address.

import { lazy, useEffect, useRef, useState } from "react";
import { createBrowserRouter, Link, Navigate, useRouteError } from "react-router";
import { RouterProvider } from "react-router/dom";
import { asApiError } from "./api/errors";
import { client } from "./api/queries";
import { SCREENS } from "./screens";
import { Login } from "./screens/login/Login";
import { useIdleEnd } from "./session/idle";
import { begin, current, subscribe, useSession } from "./session/session";
import { Frame } from "./shell/Frame";
import css from "./shell/Frame.module.css";
import { Empty, ErrorBox, Loading } from "./ui/Box";

const Session = lazy(() => import("./screens/session/Session"));

const router = createBrowserRouter([
  {
    Component: Frame,
    children: [
      { errorElement: <Broken />, children: SCREENS.map((screen) => ({ path: screen.path, Component: screen.page })) },
      { path: "/session", Component: Session },
      { path: "/login", element: <Navigate to="/" replace /> },
      { path: "*", Component: Nowhere },
    ],
  },
]);

/** What was shown to one is not shown to the next; before the page to sign in asks anything. */
subscribe(() => void (current().phase === "out" && client.clear()));

export function App() {
  const { phase } = useSession();
  const [error, setError] = useState<unknown>(null);
  const isNear = useIdleEnd();
  useEffect(() => void begin().catch(setError), []);
  if (phase === "out") return <Login />;
  if (phase === "in") return <>{isNear && <Leaving />}<RouterProvider router={router} /></>;
  return error === null ? <Loading /> : <ErrorBox error={error} onRetry={() => location.reload()} />;
}

/** Over everything, dialogs included: a popover is in the top layer. */
function Leaving() {
  const note = useRef<HTMLDivElement>(null);
  useEffect(() => note.current?.showPopover(), []);
  return <div ref={note} popover="manual" className={css.leaving} role="alert">Nobody seems to be here: you will be signed out within two minutes. Press any key to stay.</div>;
}

/** A screen that failed; the others go on. */
function Broken() {
  return <div style={{ padding: 24 }}><ErrorBox error={asApiError(useRouteError())} onRetry={() => location.reload()} /></div>;
}

function Nowhere() {
  return <Empty icon="map" title="There is no such page"><p>The address names no screen of this version.</p><Link to="/">Go to Home</Link></Empty>;
}
