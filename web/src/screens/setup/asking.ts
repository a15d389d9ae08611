// What setting up asks of the controller.

import { useQuery } from "@tanstack/react-query";
import { api, told, whole } from "../../api/client";
import type { components } from "../../api/schema";

type Schemas = components["schemas"];
export type Profile = Schemas["ProfileView"];
export type Invitation = Schemas["InvitationView"];
export type Token = Schemas["TokenView"];
export type Job = Schemas["Job"];
export type InventoryPlanned = Schemas["InventoryPlanned"];

export const useProfiles = () => useQuery({ queryKey: ["profiles"], queryFn: ({ signal }) => whole((after) => api.GET("/v1/profiles", { params: { query: { after } }, signal })) });
export const useInvitations = () => useQuery({ queryKey: ["invitations"], queryFn: ({ signal }) => whole((after) => api.GET("/v1/invitations", { params: { query: { after } }, signal })), refetchInterval: 15_000 });
export const useTokens = () => useQuery({ queryKey: ["tokens"], queryFn: ({ signal }) => whole((after) => api.GET("/v1/tokens", { params: { query: { after } }, signal })) });

/** What the controller says of settings as they are written. */
export const useSettingsChecked = (settings: string, isOn: boolean) =>
  useQuery({
    queryKey: ["check", "settings", settings],
    queryFn: ({ signal }) => told(api.POST("/v1/check", { body: { files: {}, remove: [], alone: false, settings, lint: false, tests: false }, signal })),
    enabled: isOn,
    placeholderData: (before) => before,
  });

const LOOK_MS = 700;

/** An upload that is being read, looked at until it is done. */
export const useJob = (id: string) =>
  useQuery({
    queryKey: ["job", id],
    queryFn: ({ signal }) => told(api.GET("/v1/jobs/{id}", { params: { path: { id } }, signal })),
    refetchInterval: (query) => (query.state.data?.state === "running" || !query.state.data ? LOOK_MS : false),
    enabled: id !== "",
    retry: false,
  });

const PATIENCE_MS = 2000;
const FIRST = 500;

/** Hosts with an agent that are as a profile makes them. */
export const useArriving = (labels: Record<string, string>, isOn: boolean) => {
  const selector = Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(",");
  return useQuery({
    queryKey: ["arriving", selector],
    queryFn: async ({ signal }) => {
      const page = await told(api.GET("/v1/workloads", { params: { query: { selector, limit: FIRST } }, signal }));
      return page.items.filter((one) => one.origin === "agent");
    },
    refetchInterval: PATIENCE_MS,
    enabled: isOn,
  });
};
