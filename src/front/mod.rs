//! Client connections: take (parse, route, flow control) and reply (order, write).
