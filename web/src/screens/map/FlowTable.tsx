// The same question as a table: one line a service between two groups with one outcome.

import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { api, told } from "../../api/client";
import { VerdictBadge } from "../../ui/Badge";
import { ErrorBox, Loading } from "../../ui/Box";
import { type Column, type Order, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, printable } from "../../words";
import { type Ask, bodyOf, type FlowPage, type FlowRow, type Pen, type Question, type SortKey } from "./asking";
import { bytes } from "./EdgeDrawer";
import { NoMap } from "./NoMap";

const PAGE = 500;

/** Pages of flows in the server's order; `ends` narrow both ends. */
export const useFlows = (question: Question, draft: Pen | null, order: Order, ends: Pick<Ask, "source" | "destination"> = { source: "", destination: "" }) =>
  useInfiniteQuery({
    queryKey: ["flows", question, draft, order, ends],
    queryFn: ({ pageParam, signal }) =>
      told(api.POST("/v1/flows", { body: { ...bodyOf(question, Date.now(), draft), ...ends, sort: order.id as SortKey, is_descending: order.isDown, offset: pageParam, limit: PAGE }, signal })) as Promise<FlowPage>,
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (last.truncated > 0 ? pages.reduce((sum, page) => sum + page.rows.length, 0) : undefined),
    staleTime: 20_000,
    placeholderData: (before) => before,
  });

export const UNPROTECTED_FIRST: Order = { id: "status", isDown: true };
/** What the draft says otherwise of, then what is unprotected. */
export const CHANGED_FIRST: Order = { id: "change", isDown: true };
export const firstOf = (draft: Pen | null): Order => (draft ? CHANGED_FIRST : UNPROTECTED_FIRST);

export const flowColumns = (now: number, isDraft: boolean): Column<FlowRow>[] => [
  { id: "source", name: "From", cell: (row) => <b>{printable(row.source_name)}</b>, by: (row) => row.source_name },
  { id: "destination", name: "To", cell: (row) => <b>{printable(row.destination_name)}</b>, by: (row) => row.destination_name },
  { id: "service", name: "Service", cell: (row) => <code>{printable(row.service)}</code>, by: (row) => row.service, width: "118px" },
  { id: isDraft ? "change" : "status", name: isDraft ? "Now → draft" : "Verdict", cell: (row) => <><VerdictBadge verdict={row.now.status} />{row.draft && row.draft.status !== row.now.status && <> → <VerdictBadge verdict={row.draft.status} /></>}</>, by: (row) => row.now.status, width: isDraft ? "270px" : "152px" },
  { id: "rule", name: "Rule", cell: (row) => (row.now.rule ? <code>{printable(row.now.rule)}</code> : <span className="soft">{row.now.is_uncovered ? "no rule" : (row.now.reason ?? "–")}</span>), width: "170px", isExtra: true },
  { id: "connections", name: "Connections", cell: (row) => count(row.connections), by: (row) => row.connections, width: "116px", isNumber: true },
  { id: "bytes", name: "Bytes", cell: (row) => bytes(row.bytes), by: (row) => row.bytes, width: "84px", isNumber: true, isExtra: true },
  { id: "last", name: "Last", cell: (row) => <span title={`${moment(row.first)} – ${moment(row.last)}`}>{ago(row.last, now)}</span>, by: (row) => row.last, width: "96px" },
];

export const flowId = (row: FlowRow): string => [row.source, row.destination, row.service, row.now.status, row.now.rule, row.now.reason, row.draft?.status, row.draft?.rule].join("|");
const nameOf = (row: FlowRow): string => `${printable(row.source_name)} to ${printable(row.destination_name)}, ${printable(row.service)}, ${row.now.status}`;

interface Props {
  question: Question;
  draft: Pen | null;
  opened: string;
  onOpen: (from: string, to: string) => void;
  onAll: () => void;
}

export function FlowTable({ question, draft, opened, onOpen, onAll }: Props) {
  const [chosen, setOrder] = useState<Order | null>(null);
  const order = chosen ?? firstOf(draft);
  const found = useFlows(question, draft, order);
  const now = useNow(10_000);
  const columns = useMemo(() => flowColumns(now, draft !== null), [now, draft]);
  const rows = useMemo(() => found.data?.pages.flatMap((page) => page.rows) ?? [], [found.data]);
  const { hasNextPage, fetchNextPage, isFetchingNextPage } = found;
  const more = useCallback(() => void (hasNextPage && !isFetchingNextPage && fetchNextPage()), [hasNextPage, isFetchingNextPage, fetchNextPage]);
  if (found.error && !found.data) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data) return <Loading lines={10} />;
  if (rows.length === 0) return <NoMap isEmpty={false} onAll={onAll} />;
  return (
    <Table
      label="Flows" rows={rows} columns={columns} idOf={flowId} nameOf={nameOf} order={order} onOrder={setOrder} onEnd={more} total={found.data.pages[0]?.total}
      opened={rows.find((row) => `${row.source} ${row.destination}` === opened) && flowId(rows.find((row) => `${row.source} ${row.destination}` === opened) as FlowRow)} onOpen={(row) => onOpen(row.source, row.destination)}
    />
  );
}
