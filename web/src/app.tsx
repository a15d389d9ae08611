// Who is not logged in sees the login, at whatever address; who is sees the screen of the address.

import { useEffect, useState } from "react";
import { createBrowserRouter, Link, RouterProvider, useRouteError } from "react-router";
import { api, told } from "./api/client";
import { asApiError } from "./api/errors";
import { SCREENS } from "./screens";
import { Login } from "./screens/login/Login";
import { know, useSession } from "./session/session";
import { Frame } from "./shell/Frame";
import { Empty, ErrorBox, Loading } from "./ui/Box";

const router = createBrowserRouter([
  {
    Component: Frame,
    children: [
      { errorElement: <Broken />, children: SCREENS.map((screen) => ({ path: screen.path, Component: screen.page })) },
      { path: "*", Component: Nowhere },
    ],
  },
]);

export function App() {
  const { isIn, me } = useSession();
  const [error, setError] = useState<unknown>(null);
  const isKnown = me !== null;
  useEffect(() => {
    if (!isIn || isKnown) return;
    const stop = new AbortController();
    const ask = (): Promise<void> => told(api.GET("/v1/me", { signal: stop.signal })).then(know, (refused: unknown) => stop.signal.aborted || setError(refused)) as Promise<void>;
    void ask();
    return () => stop.abort();
  }, [isIn, isKnown]);
  if (!isIn) return <Login />;
  if (isKnown) return <RouterProvider router={router} />;
  return error === null ? <Loading /> : <ErrorBox error={error} onRetry={() => location.reload()} />;
}

/** A screen that failed; the others go on. */
function Broken() {
  return <div style={{ padding: 24 }}><ErrorBox error={asApiError(useRouteError())} onRetry={() => location.reload()} /></div>;
}

function Nowhere() {
  return <Empty icon="map" title="There is no such page"><p>The address names no screen of this version.</p><Link to="/">Go to Home</Link></Empty>;
}
