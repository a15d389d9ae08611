// What becomes of an address that a host says it has, in words.

import type { Workload } from "../../api/types";

type Claim = NonNullable<Workload["refused"]>[number];

const WORDS: Readonly<Record<string, (holder: string) => string>> = {
  contested: (holder) => `and so does ${holder}: both hold it, and only what would pass for both passes`,
  held: (holder) => `which ${holder} has; it is not given to it`,
  lie: (holder) => `which ${holder} has, and more addresses of others than one host can have taken over: it gets none of them`,
  outside: () => "outside of the ranges of its pairing profile",
  unusable: () => "which no host can have",
  "too-many": () => "more than a host may have",
};

export const claimWords = ({ address, why, holder }: Claim): string =>
  `It says it has ${address}, ${WORDS[why]?.(holder || "another") ?? why}.`;
