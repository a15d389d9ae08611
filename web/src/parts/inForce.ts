// The policy files that hosts have, as text: what drafts are laid over.

import { useQuery } from "@tanstack/react-query";
import { api, told } from "../api/client";
import { client, useStatus } from "../api/queries";
import type { components } from "../api/schema";

export type Draft = components["schemas"]["Draft"];

export interface InForce {
  /** 0: nothing is published. */
  version: number;
  files: Readonly<Record<string, string>>;
  /** The text of `ringfence.toml`. */
  settings: string;
}

const NOTHING: InForce = { version: 0, files: {}, settings: "" };

const read = async (number: number): Promise<InForce> => {
  if (number === 0) return NOTHING;
  const { files, settings } = await told(api.GET("/v1/versions/{number}", { params: { path: { number } } }));
  return { version: number, files, settings };
};

const query = (number: number) => ({ queryKey: ["in-force", number], queryFn: () => read(number), staleTime: Infinity });

/** A version's files. */
export const filesOf = (version: number): Promise<InForce> => client.fetchQuery(query(version));

export const useInForce = (version: number | undefined) => useQuery({ ...query(version ?? 0), enabled: version !== undefined });

/** What is in force with some files laid over it, as `POST /v1/explain` takes a draft; none while it is not known. */
export function useDrafted(files: Readonly<Record<string, string | null>>): Draft | null {
  const { policy_version: version } = useStatus().data ?? {};
  const inForce = useInForce(version).data;
  if (!inForce) return null;
  const all = Object.entries({ ...inForce.files, ...files }).filter((entry): entry is [string, string] => entry[1] !== null);
  return { files: Object.fromEntries(all), base: inForce.version, settings: inForce.settings, note: "" };
}
