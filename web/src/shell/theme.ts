// Light, dark, or as the system has it; remembered in this browser.

import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "ringfence.theme";
const watchers = new Set<() => void>();

const read = (): Theme => {
  const told = localStorage.getItem(KEY);
  return told === "light" || told === "dark" ? told : "system";
};

export function show(theme: Theme): void {
  if (theme === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme);
  begin();
  for (const watcher of watchers) watcher();
}

export function begin(): void {
  const theme = read();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export const useTheme = (): Theme => useSyncExternalStore((watcher) => (watchers.add(watcher), () => watchers.delete(watcher)), read);
