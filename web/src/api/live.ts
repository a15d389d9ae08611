// One connection for what happens now (`/v1/events`), kept up; every screen listens to it.

import { useEffect, useSyncExternalStore } from "react";
import { end } from "../session/session";
import { eventsIn } from "./stream";
import type { LiveEvent } from "./types";

export type Link = "connecting" | "live" | "lost";
/** The server says that it is there every 15 s; three silent ones are a dead connection. */
const SILENCE_MS = 45_000;
const LEAST_MS = 1000;
const MOST_MS = 30_000;

let link: Link = "connecting";
const watchers = new Set<() => void>();
const listeners = new Set<(event: LiveEvent) => void>();

function become(next: Link): void {
  if (next === link) return;
  link = next;
  for (const watcher of watchers) watcher();
}

/** Keep the connection until the signal says otherwise. `onAgain`: events may have been missed. */
export async function keepLive(signal: AbortSignal, onAgain: () => void): Promise<void> {
  let pause = LEAST_MS;
  while (!signal.aborted) {
    try {
      await listen(signal, () => {
        if (link === "lost") onAgain();
        pause = LEAST_MS;
        become("live");
      });
    } catch {
      if (signal.aborted) return;
    }
    become("lost");
    await sleep(pause * (0.75 + Math.random() / 2), signal);
    pause = Math.min(MOST_MS, pause * 2);
  }
}

async function listen(signal: AbortSignal, onOpen: () => void): Promise<void> {
  const cut = new AbortController();
  const both = AbortSignal.any([signal, cut.signal]);
  const headers = new Headers({ Accept: "text/event-stream" });
  let silence = setTimeout(() => cut.abort(), SILENCE_MS);
  try {
    const answer = await fetch("/v1/events", { headers, signal: both, cache: "no-store" });
    if (answer.status === 401) end();
    if (!answer.ok || answer.body === null) return;
    onOpen();
    const take = eventsIn();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      clearTimeout(silence);
      silence = setTimeout(() => cut.abort(), SILENCE_MS);
      for (const told of take(piece.value)) hear(told.data);
    }
  } finally {
    clearTimeout(silence);
  }
}

function hear(data: string): void {
  const event = JSON.parse(data) as LiveEvent;
  for (const listener of listeners) listener(event);
}

const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

export const useLink = (): Link =>
  useSyncExternalStore((watcher) => (watchers.add(watcher), () => watchers.delete(watcher)), () => link);

/** Hear every event while the component is there. */
export function useLive(listener: (event: LiveEvent) => void): void {
  useEffect(() => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, [listener]);
}
