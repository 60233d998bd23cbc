//! What a cache is: records, shards, digests, verification.
