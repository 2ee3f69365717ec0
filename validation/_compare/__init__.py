"""An equation held against its twin: statistics, tables, figures."""
