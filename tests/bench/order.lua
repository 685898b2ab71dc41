-- The four statements that every cost is measured with, as text: BEGIN, a conditional UPDATE, an INSERT, COMMIT.

sysbench.cmdline.options = {
   skus = {"SKUs to spread the orders over, uniformly", 1000},
}

function thread_init()
   con = sysbench.sql.driver():connect()
end

function event()
   local sku = sysbench.rand.uniform(0, sysbench.opt.skus - 1)
   -- Two draws make one id: a single one has 31 bits.
   local id = string.format("%d%09d", sysbench.rand.uniform(1, 2000000000), sysbench.rand.uniform(0, 999999999))
   con:query("BEGIN")
   con:query(string.format(
      "UPDATE stock SET available = available - 1, version = LAST_INSERT_ID(version + 1) " ..
      "WHERE sku = %d AND available >= 1", sku))
   con:query(string.format(
      "INSERT INTO orders (id, user_id, sku, qty) VALUES (%s, %d, %d, 1)", id, sysbench.rand.uniform(0, 49999), sku))
   con:query("COMMIT")
end

function thread_done()
   con:disconnect()
end
