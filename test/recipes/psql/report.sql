SELECT item FROM orders;
