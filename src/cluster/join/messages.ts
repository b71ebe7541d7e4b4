/** What a new host and a host of the cluster say to each other: JSON over TLS, `POST /v1/join`. */
import { z } from 'zod';

export const joinRequest = z.object({
  id: z.string().max(64),
  secret: z.string().max(200),
  node: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}$/),
  hostname: z.string().max(255),
  /** Address of the new host for the others. */
  advertise: z.string().max(64),
  /** etcd's client port there. */
  port: z.int().min(1).max(65_535),
});
export type JoinRequestBody = z.infer<typeof joinRequest>;

export const joinAnswer = z.object({
  cluster: z.string().min(1),
  incarnation: z.int().nonnegative(),
  /** Certificate and key of the authority, PEM. */
  authority: z.string().min(1).max(20_000),
  authorityKey: z.string().min(1).max(20_000),
  endpoints: z.array(z.url()).min(1).max(32).readonly(),
});
export type JoinAnswer = z.infer<typeof joinAnswer>;

export const refusal = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

export const BODY_LIMIT_BYTES = 64 * 1024;
