// Who a UUID is: workloads as they are named now, and those that are gone as the log itself names them.

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, told } from "../../api/client";
import { MOST_WORKLOADS } from "../../api/queries";
import type { AuditEntry } from "../../api/types";
import { detailsOf } from "./told";

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;
const PAGE = 1000;
const SETTLED_MS = 60_000;

async function namesNow(signal: AbortSignal): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (let after = ""; names.size < MOST_WORKLOADS; ) {
    const page = await told(api.GET("/v1/workloads", { params: { query: { after, limit: PAGE } }, signal }));
    for (const one of page.items) names.set(one.uuid, one.name);
    if (!page.next) break;
    after = page.next;
  }
  return names;
}

/** The name its details tell, for a workload that is gone. */
export function toldName(entry: AuditEntry): string {
  const { name } = detailsOf(entry);
  return UUID.test(entry.subject) && typeof name === "string" ? name : "";
}

/** The name behind an entry's subject; empty: it is no workload, or its name is not known. */
export function useNames(rows: readonly AuditEntry[]): (entry: AuditEntry) => string {
  const isAsked = rows.some((one) => UUID.test(one.subject));
  const now = useQuery({ queryKey: ["audit-names"], queryFn: ({ signal }) => namesNow(signal), staleTime: SETTLED_MS, enabled: isAsked }).data;
  return useMemo(() => {
    const gone = new Map(rows.map((one) => [one.subject, toldName(one)] as const).filter(([, name]) => name !== ""));
    return (entry) => now?.get(entry.subject) ?? gone.get(entry.subject) ?? toldName(entry);
  }, [rows, now]);
}
