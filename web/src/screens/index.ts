// Every screen there is, in the order of the navigation. A new one is a folder here and a line below.

import { type ComponentType, lazy, type LazyExoticComponent } from "react";
import type { IconName } from "../ui/Icon";

export interface Screen {
  path: string;
  name: string;
  icon: IconName;
  /** `g` and then this key goes there. */
  key: string;
  /** The right without which it is not in the navigation. */
  right: string;
  page: LazyExoticComponent<ComponentType>;
}

export const SCREENS: readonly Screen[] = [
  { path: "/", name: "Home", icon: "home", key: "h", right: "read", page: lazy(() => import("./home/Home")) },
  { path: "/map", name: "Map", icon: "map", key: "m", right: "read", page: lazy(() => import("./map/Map")) },
  { path: "/workloads", name: "Workloads", icon: "server", key: "w", right: "read", page: lazy(() => import("./workloads/Workloads")) },
  { path: "/policies", name: "Policies", icon: "policy", key: "p", right: "read", page: lazy(() => import("./policies/Policies")) },
  { path: "/recommend", name: "Recommend", icon: "bulb", key: "r", right: "read", page: lazy(() => import("./recommend/Recommend")) },
  { path: "/reach", name: "Reach", icon: "reach", key: "e", right: "read", page: lazy(() => import("./reach/Reach")) },
  { path: "/alerts", name: "Alerts", icon: "bell", key: "a", right: "read", page: lazy(() => import("./alerts/Alerts")) },
  { path: "/audit", name: "Audit", icon: "log", key: "u", right: "audit", page: lazy(() => import("./audit/Audit")) },
  { path: "/setup", name: "Setup", icon: "plus", key: "s", right: "read", page: lazy(() => import("./setup/Setup")) },
];
