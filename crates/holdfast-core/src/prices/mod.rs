//! What things cost, in US dollars, dated, each with its source; `[prices]` of a policy overrides them.

mod rds;

pub use rds::{AS_OF, Price, RdsPrices, TABLE};
