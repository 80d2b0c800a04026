/** The body of `POST /v1/collections/{name}/ddl`. Pure. */
import { z } from 'zod';

export const ddlRequest = z.strictObject({ statement: z.string().min(1) });
