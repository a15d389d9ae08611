// Questions to the server that several screens ask, each under one key: what one learns the others have.

import { QueryClient, useQuery } from "@tanstack/react-query";
import { api, isPassing, told, whole } from "./client";
import type { Alert, Workload } from "./types";

const PAGE = 1000;
/** A browser's table: more than this is a question for a narrower selector. */
export const MOST_WORKLOADS = 20_000;
const MOST_ALERTS = 2000;

export const client = new QueryClient({
  defaultOptions: {
    queries: { staleTime: 5000, retry: (failures, error) => failures < 2 && isPassing(error), refetchOnWindowFocus: true },
    mutations: { retry: false },
  },
});

export const keys = {
  status: ["status"],
  posture: ["posture"],
  workloads: (selector: string) => ["workloads", selector],
  workload: (uuid: string) => ["workload", uuid],
  alerts: (all: boolean) => ["alerts", all],
  quarantines: ["quarantines"],
  audit: ["audit"],
} as const;

/** Look again at what is shown, after something was changed. */
export const refresh = (...names: string[]): Promise<unknown> =>
  Promise.all(names.map((name) => client.invalidateQueries({ queryKey: [name] })));

interface Paged<T> {
  items: T[];
  next: string;
}

/** All pages of a list, as far as `most`. */
async function every<T>(most: number, page: (after: string) => Promise<Paged<T>>): Promise<{ items: T[]; isWhole: boolean }> {
  const items: T[] = [];
  for (let after = ""; ; ) {
    const one = await page(after);
    items.push(...one.items);
    if (!one.next) return { items, isWhole: true };
    if (items.length >= most) return { items, isWhole: false };
    after = one.next;
  }
}

export const useStatus = () =>
  useQuery({ queryKey: keys.status, queryFn: ({ signal }) => told(api.GET("/v1/status", { signal })), refetchInterval: 5000 });

export const usePosture = () =>
  useQuery({ queryKey: keys.posture, queryFn: ({ signal }) => told(api.GET("/v1/posture", { signal })), refetchInterval: 15_000 });

/** Every workload that a selector picks; all of them for an empty one. */
export const useWorkloads = (selector: string) =>
  useQuery({
    queryKey: keys.workloads(selector),
    queryFn: ({ signal }) =>
      every<Workload>(MOST_WORKLOADS, (after) =>
        told(api.GET("/v1/workloads", { params: { query: { selector, after, limit: PAGE } }, signal })) as Promise<Paged<Workload>>,
      ),
    refetchInterval: 15_000,
    placeholderData: (before) => before,
  });

export const useAlerts = (all: boolean) =>
  useQuery({
    queryKey: keys.alerts(all),
    queryFn: ({ signal }) =>
      every<Alert>(MOST_ALERTS, (after) =>
        told(api.GET("/v1/alerts", { params: { query: { all, after, limit: PAGE } }, signal })) as Promise<Paged<Alert>>,
      ),
    refetchInterval: 30_000,
    placeholderData: (before) => before,
  });

export const useQuarantines = () =>
  useQuery({
    queryKey: keys.quarantines,
    queryFn: ({ signal }) => whole((after) => api.GET("/v1/quarantines", { params: { query: { after } }, signal })),
    refetchInterval: (query) => (query.state.data?.some((one) => one.state !== "verified") ? 1500 : 15_000),
  });
